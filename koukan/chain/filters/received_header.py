"""received_header: prepends the trace field of this hop (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3, RFC 8314 §4.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime

from koukan.blob.bodies import ConcatBody
from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import RemoteHostOutput
from koukan.chain.transaction import Transaction
from koukan.config.filters import ReceivedHeader
from koukan.message.address import Address, address_literal, ascii_domain, parse_address
from koukan.message.rendering import format_date
from koukan.model import Body, Mailbox, SmtpMeta

#: octets of one item of a clause: a domain has no more (RFC 1035 §2.3.4), a path one more (RFC 5321 §4.5.3.1.3), and all
#: clauses of a line stay below the limit for a line
MAX_ITEM = 256

# What a client calls itself is its own word: nothing of it may end a line, open a comment or begin another clause.
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
_TLS_WORD = re.compile(r"[A-Za-z0-9._-]{1,80}")


class ReceivedHeaderFilter(Filter):
    """Says from whom, by whom, how and when we got the message. Needs no more of the body than that it exists."""

    needs_complete_body = False
    reads_message = True

    def __init__(self, hostname: str | None, now: Callable[[], datetime]) -> None:
        self._by = None if hostname is None else _name(hostname, smtputf8=False)
        self._now = now

    async def on_body(self, tx: Transaction, body: Body) -> Body:
        return ConcatBody.prepend(self.render(tx), body)

    def render(self, tx: Transaction) -> bytes:
        """The field, a clause a line."""
        clauses = "\r\n\t".join(self._clauses(tx))
        return f"Received: {clauses};\r\n\t{format_date(self._now())}\r\n".encode()

    def _clauses(self, tx: Transaction) -> Iterator[str]:
        smtputf8 = tx.smtputf8
        client = _from(tx, smtputf8)
        if client is not None:
            yield f"from {client}"
        if self._by is not None:
            yield f"by {self._by}"
        yield f"with {_protocol(tx.smtp_meta, smtputf8)}"
        if _ID.fullmatch(tx.id):
            yield f"id {tx.id}"
        mailbox = _only_recipient(tx, smtputf8)
        if mailbox is not None:
            yield f"for {mailbox}"


def build(options: ReceivedHeader, context: Context) -> ReceivedHeaderFilter:
    return ReceivedHeaderFilter(options.received_hostname, context.now)


def _from(tx: Transaction, smtputf8: bool) -> str | None:
    """What the client calls itself and, in a comment, what we know of it; None when we do not know its address."""
    if tx.client_address is None:
        return None
    known = [address_literal(tx.client_address)]
    confirmed = tx.output(RemoteHostOutput)
    if confirmed is not None and confirmed.fcrdns:
        known.insert(0, _name(confirmed.remote_hostname, smtputf8))
    ehlo = tx.smtp_meta.ehlo_host if tx.smtp_meta else None
    return f"{_name(ehlo, smtputf8) if ehlo else known[0]} ({' '.join(known)})"


def _name(text: str | None, smtputf8: bool) -> str:
    """A host name as the field may hold it: U-labels only with SMTPUTF8, `?` for what is no part of a name."""
    text = text or "unknown"
    if not text.isascii():
        address = parse_address(f"x@{text}")
        ascii_form = address and ascii_domain(address.domain)
        if ascii_form and smtputf8 and len(text.encode()) <= MAX_ITEM:
            return text
        text = ascii_form or text
    return _NOT_IN_NAME.sub("?", text[:MAX_ITEM])


def _protocol(meta: SmtpMeta | None, smtputf8: bool) -> str:
    """The registered name of the protocol, with what TLS agreed on in a comment. Only extended SMTP has names for more."""
    if meta is None:
        return "X-RESTMTP"
    if not meta.esmtp and not smtputf8:
        name = "SMTP"
    else:
        name = ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if meta.tls else "") + ("A" if meta.auth else "")
    extra = meta.extra or {}
    details = [extra.get("tls_version"), extra.get("tls_cipher")] if meta.tls else []
    words = [word for word in details if isinstance(word, str) and _TLS_WORD.fullmatch(word)]
    return f"{name} ({' '.join(words)})" if words else name


def _only_recipient(tx: Transaction, smtputf8: bool) -> str | None:
    """The recipient, when there is one: several must not learn of each other (RFC 5321 §7.2)."""
    return _mailbox(tx.recipients[0].mailbox, smtputf8) if len(tx.recipients) == 1 else None


def _mailbox(mailbox: Mailbox, smtputf8: bool) -> str | None:
    address = parse_address(mailbox.address)
    if address is None:
        return None
    text = str(address)
    if not text.isascii() and not smtputf8:
        domain = ascii_domain(address.domain)
        if not address.local.isascii() or domain is None:
            return None
        text = str(Address(address.local, domain))
    return text if len(text.encode()) <= MAX_ITEM else None
