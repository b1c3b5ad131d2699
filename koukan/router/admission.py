"""What a create request must hold beyond its form, so that what can be known then is answered then, not by a bounce later.

Addresses are brought into the form in which SMTP carries them: a domain beyond ASCII as A-labels, and SMTPUTF8 where a local
part, or a header field, cannot do without (RFC 6531 §3.4).
"""

from __future__ import annotations

import re
from dataclasses import replace

from koukan.chain.filters.message_builder import INLINE_ITEMS, count_items
from koukan.errors import InvalidDocument, InvalidMessage
from koukan.executor import run_bounded
from koukan.message.address import ascii_domain
from koukan.message.builder import BuilderSpec
from koukan.message.spec_rules import check_spec
from koukan.message.transfer import base64_length
from koukan.model import EsmtpParam, Mailbox
from koukan.model.documents import BuilderBody, CreateRequest
from koukan.model.values import Json
from koukan.rest.problems import TooLarge

# Two addresses in one, and what no domain of anybody has. What else local parts hold is their servers' business: some have
# issued `a..b@` and `a.@`, and many domains have underscores.
_LOCAL = re.compile(r'"(?:[^"\\]|\\.)*+"|[^@,;"\s]+')
_DOMAIN = re.compile(r"\[[^\[\]\s]+\]|[^,;:()<>@\[\]\\\"\s]+")
_SMTPUTF8 = EsmtpParam("SMTPUTF8")


async def admit(request: CreateRequest) -> CreateRequest:
    """The request as it is carried on. Raises InvalidDocument or InvalidMessage with the path of what is wrong."""
    utf8_headers = False
    if isinstance(request.body, BuilderBody):
        utf8_headers = await _check_builder(request.body.spec)
    if request.smtp_meta is not None:
        return request  # what came by SMTP has been judged there, and its client waits for an answer of SMTP
    mail_from = request.mail_from
    if mail_from is not None and mail_from.address:
        mail_from = _admit_mailbox("mail_from.m", mail_from)
    rcpt_to = tuple(_admit_mailbox(f"rcpt_to[{i}].m", mailbox) for i, mailbox in enumerate(request.rcpt_to))
    if mail_from is not None and (utf8_headers or not all(m.address.isascii() for m in (mail_from, *rcpt_to))):
        mail_from = _with_smtputf8(mail_from)
    return replace(request, mail_from=mail_from, rcpt_to=rcpt_to)


def check_size(spec: BuilderSpec, limit: int) -> None:
    """Raises TooLarge for a message whose texts alone are larger than a message may be."""
    texts = (source.inline for source in spec.sources.values())
    if sum(base64_length(len(text)) for text in texts if text is not None) > limit:
        raise TooLarge(f"the message is larger than {limit} bytes")


def _with_smtputf8(mailbox: Mailbox) -> Mailbox:
    return mailbox if mailbox.param("SMTPUTF8") else replace(mailbox, params=(*mailbox.params, _SMTPUTF8))


def _admit_mailbox(field: str, mailbox: Mailbox) -> Mailbox:
    local, at, domain = mailbox.address.rpartition("@")
    if not at and mailbox.address.lower() == "postmaster":  # RFC 5321 §4.5.1
        return mailbox
    if not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise InvalidDocument(field, f"{mailbox.address[:100]!r} is no mail address: it is one local-part@domain")
    if domain.isascii():
        return mailbox
    encoded = ascii_domain(domain)
    if encoded is None:
        raise InvalidDocument(field, f"{domain[:100]!r} is no domain name")
    return replace(mailbox, address=f"{local}@{encoded}") if local.isascii() else mailbox


async def _check_builder(spec: Json) -> bool:
    """Whether the header fields of a spec are beyond ASCII. Raises InvalidDocument or InvalidMessage."""
    try:
        head = await run_bounded(check_spec, spec) if count_items(spec) > INLINE_ITEMS else check_spec(spec)
    except InvalidDocument as error:
        field = f".{error.field}" if error.field else ""
        raise InvalidDocument(f"body.message_builder{field}", error.reason) from None
    except InvalidMessage as error:
        raise InvalidMessage(f"body.message_builder.{error}") from None
    return not head.isascii()
