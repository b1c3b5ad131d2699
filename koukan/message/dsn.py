"""Bounces: the message that tells a sender what could not be delivered (RFC 3461 §6, 3464, 6522, 6533).

It reads the same everywhere: ASCII throughout, but for the header of a sender whose address is not, and for quoted headers
that only SMTPUTF8 can carry. Nothing that a remote server or an address holds can add a field to it.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
import secrets
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from koukan.errors import InvalidMessage, KoukanError
from koukan.message.address import address_literal, ascii_domain, parse_address, read_address
from koukan.message.bodies import SpecBody
from koukan.message.encoded_words import harmless
from koukan.message.header_spec import new_message_id, render_headers
from koukan.message.headers import end_of_headers, parse_headers
from koukan.message.rendering import (
    HARD_LIMIT,
    Named,
    format_date,
    render_ids,
    render_mailboxes,
    render_parameterized,
    render_text,
    sanitize,
)
from koukan.model import Body, HostPort, Mailbox, Response

logger = logging.getLogger("koukan.message")

#: bytes of the original's header block that a bounce quotes
MAX_QUOTED_HEADERS = 64 * 1024
#: lines of a reply that a bounce repeats: more than any server says in earnest
MAX_REPLY_LINES = 20
#: characters of each of them, for the same reason
MAX_REPLY_LINE = 400

#: characters of an address in a field: what a path may have (RFC 5321 §4.5.3.1) and room for characters that are escaped
MAX_WORD = 320
#: characters of a line of a reply whose characters are escaped, and the name of the field before it: less than HARD_LIMIT
MAX_LINE = 900
#: seconds that the headers of an original may take to arrive which is still on its way
HEADERS_TIMEOUT = 2.0

_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
# No answer from the host, and a connection that broke (RFC 3463 §3.5): said of the next hop more often than by it.
_UNHEARD = re.compile(r"[45]\.4\.[12]")
# Some servers write comments behind a message id: `<a@b> (added by postmaster@c)`.
_MESSAGE_ID = re.compile(r"<[^<>]+>")
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """A recipient and why it failed: `response` is the last reply, `next_hop` the server that gave it, if it was one."""

    mailbox: Mailbox
    response: Response
    next_hop: HostPort | None = None


async def make_bounce(
    *,
    sender: Mailbox,
    failed: Sequence[FailedRecipient],
    original: Body | None,
    mailer_daemon: str,
    arrived: datetime,
    now: datetime,
) -> bytes:
    """The bounce to `sender`, complete with CRLF. An original that cannot be read is not quoted: the sender must hear of it all
    the same. `arrived` and `now` are aware."""
    quoted = await _original_headers(original)
    domain = _reporting_domain(mailer_daemon)
    parts = [
        _text_part("text/plain", _explanation(failed, domain, arrived)),
        b"Content-Type: message/delivery-status\r\n\r\n" + _status(sender, failed, domain, arrived, now),
    ]
    if quoted:
        parts.append(_quote(quoted, utf8=sender.param("SMTPUTF8") is not None or not sender.address.isascii()))
    boundary = f"={secrets.token_hex(16)}"
    report = {"report-type": "delivery-status", "boundary": boundary}
    value = "; ".join(["multipart/report", *(f'{name}="{text}"' for name, text in report.items())])
    return b"".join(
        [
            _head(sender, mailer_daemon, domain, quoted, now),
            render_parameterized("Content-Type", value),
            b"" if all(part.isascii() for part in parts) else b"Content-Transfer-Encoding: 8bit\r\n",
            b"\r\n",
            *(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts),
            b"--%b--\r\n" % boundary.encode(),
        ]
    )


def _head(sender: Mailbox, mailer_daemon: str, domain: str, quoted: bytes, now: datetime) -> bytes:
    name = "Mail Delivery Subsystem"
    try:
        author = render_mailboxes("From", [Named(name, mailer_daemon)])
    except InvalidMessage:
        author = render_mailboxes("From", [Named(name, f"mailer-daemon@{domain}")])
    fields = [
        author,
        _to(sender.address),
        render_text("Subject", "Delivery Status Notification (failure)"),
        render_text("Date", format_date(now)),
        render_ids("Message-ID", [new_message_id(domain)]),
        *_threading(quoted),
        b"Auto-Submitted: auto-replied\r\n",
        b"MIME-Version: 1.0\r\n",
    ]
    return b"".join(fields)


def _to(sender: str) -> bytes:
    """The sender as a field: some receivers refuse a bounce that is not addressed to the return path in its header as well.

    Addresses that their hosts have issued against the grammar of SMTP (`a..b@c.d`) have a quoted form that headers may hold.
    """
    try:
        return render_mailboxes("To", [Named("", sender)])
    except InvalidMessage:
        address = read_address(sender)
    if address is None or len(str(address)) > MAX_LINE:
        logger.info("a bounce without To: the sender's address cannot be in a header")
        return b""
    return f"To: {address}\r\n".encode()


def _threading(quoted: bytes) -> list[bytes]:
    """What puts the bounce beside the message that it is about."""
    try:
        message_id = parse_headers(quoted)[0].get("message-id") or ""
        found = _MESSAGE_ID.search(message_id)
        bare = found[0] if found else message_id
        return [render_ids(name, [bare]) for name in ("In-Reply-To", "References")] if bare else []
    except InvalidMessage:
        return []


def _reporting_domain(mailer_daemon: str) -> str:
    domain = ascii_domain(mailer_daemon.rpartition("@")[2].lower()) or ""
    return domain if parse_address(f"x@{domain}") else "localhost"


# --- what people read -------------------------------------------------------------------------------------------------------


def _explanation(failed: Sequence[FailedRecipient], domain: str, arrived: datetime) -> str:
    one = len(failed) == 1
    lines = [
        f"This is the mail system at {domain}.",
        "",
        f"Your message of {format_date(arrived)} could not be delivered to",
        f"{'this recipient' if one else 'these recipients'}. It will not be tried again.",
    ]
    for recipient in failed:
        lines += ["", f"<{harmless(recipient.mailbox.address)[:MAX_WORD]}>"]
        if recipient.next_hop is not None:
            said = "was tried" if _UNHEARD.fullmatch(recipient.response.enhanced_code) else "answered"
            lines.append(f"  The server {sanitize(recipient.next_hop.host)[:255]} {said}:")
        for line in _reply(recipient.response):
            lines += textwrap.wrap(line, 76, initial_indent="  ", subsequent_indent="    ")
    lines += ["", "A report for software follows, and the headers of your message where they are known."]
    return "".join(f"{line}\r\n" for line in lines)


def _reply(response: Response) -> list[str]:
    """The lines of a reply as SMTP has them: the code before each (RFC 5321 §4.2.1)."""
    lines = response.message.splitlines()[:MAX_REPLY_LINES] or [""]
    texts = [harmless(line.expandtabs(1)).strip()[:MAX_REPLY_LINE] for line in lines]
    last = len(texts) - 1
    return [f"{response.code}{' ' if i == last else '-'}{text}".rstrip() for i, text in enumerate(texts)]


# --- what software reads ----------------------------------------------------------------------------------------------------


def _status(sender: Mailbox, failed: Sequence[FailedRecipient], domain: str, arrived: datetime, now: datetime) -> bytes:
    """The content of message/delivery-status (RFC 3464 §2): a block for the message and one for each recipient."""
    envelope_id = sender.param("ENVID")
    blocks = [[f"Reporting-MTA: dns; {domain}", f"Arrival-Date: {format_date(arrived)}"]]
    if envelope_id is not None and envelope_id.value:
        blocks[0].insert(0, f"Original-Envelope-Id: {_from_xtext(envelope_id.value)}")
    blocks += [_recipient_block(recipient, now) for recipient in failed]
    return "\r\n".join("".join(f"{line}\r\n" for line in block) for block in blocks).encode("ascii")


def _recipient_block(recipient: FailedRecipient, now: datetime) -> list[str]:
    lines = []
    if (original := _original_recipient(recipient.mailbox)) is not None:
        lines.append(f"Original-Recipient: {original}")
    lines += [
        f"Final-Recipient: {_typed_address(recipient.mailbox.address)}",
        "Action: failed",
        f"Status: {_status_code(recipient.response)}",
    ]
    if recipient.next_hop is not None:
        lines.append(f"Remote-MTA: dns; {_mta_name(recipient.next_hop.host)}")
    # A reply of several lines stands on as many, folded (RFC 3461 §9.2).
    reply = [_escape(line)[:MAX_LINE] for line in _reply(recipient.response)]
    lines.append("Diagnostic-Code: smtp; " + "\r\n ".join(reply))
    lines.append(f"Last-Attempt-Date: {format_date(now)}")
    return lines


def _escape(text: str, unsafe: re.Pattern[str] = _NOT_PRINTABLE) -> str:
    """`text` in printable ASCII, the rest in the form of RFC 6533 §3."""
    return unsafe.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def _status_code(response: Response) -> str:
    """The enhanced code; a bounce says that it failed, whatever the reply looked like (RFC 3464 §2.3.4)."""
    code = response.enhanced_code
    return code if code[0] in "45" else "5.0.0"


def _typed_address(address: str) -> str:
    if address.isascii():
        return f"rfc822; {_escape(address)[:MAX_WORD]}"
    return f"utf-8; {_escape(address, _NOT_QCHAR)[:MAX_WORD]}"


def _original_recipient(mailbox: Mailbox) -> str | None:
    """What ORCPT says (RFC 3461 §4.2): its type, and its address out of xtext. None: the client gave none."""
    param = mailbox.param("ORCPT")
    kind, semicolon, encoded = (param.value or "").partition(";") if param is not None else ("", "", "")
    if not semicolon or not kind or not encoded:
        return None
    address = _escape(encoded)[:MAX_WORD] if kind.lower() == "utf-8" else _from_xtext(encoded)
    return f"{sanitize(kind)[:64]}; {address}"


def _from_xtext(text: str) -> str:
    """What xtext stands for (RFC 3461 §4), printable."""
    return _escape(_XTEXT.sub(lambda found: chr(int(found[1], 16)), text))[:MAX_WORD]


def _mta_name(host: str) -> str:
    """A host as the dns type has it: a name, or an address in brackets (RFC 3464 §2.1.2, RFC 5321 §4.1.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        return sanitize(host)[:255]
    return address_literal(address)


# --- the original -----------------------------------------------------------------------------------------------------------


async def _original_headers(original: Body | None) -> bytes:
    """The header block of the message, up to MAX_QUOTED_HEADERS in whole lines that end in CRLF; empty when there is none."""
    try:
        if isinstance(original, SpecBody):
            block = render_headers(original.spec.get("headers"))
        elif original is not None and original.replayable:
            async with asyncio.timeout(HEADERS_TIMEOUT):
                block = await _read_block(original)
        else:
            return b""
    except (KoukanError, TimeoutError) as error:
        logger.warning("the original message cannot be quoted in a bounce: %s", error or "it did not arrive")
        return b""
    if block[:1] in (b"\r", b"\n"):
        return b""
    end = end_of_headers(block[:MAX_QUOTED_HEADERS])
    if end < 0 and len(block) > MAX_QUOTED_HEADERS:
        end = max(block.rfind(b"\n", 0, MAX_QUOTED_HEADERS), 0)
    block = _LINE_END.sub(b"\r\n", block if end < 0 else block[:end]).rstrip(b"\r\n")
    return block + b"\r\n" if block else b""


async def _read_block(original: Body) -> bytes:
    """No more of a body than its headers need: the rest may not have arrived yet."""
    block = b""
    async for chunk in original.chunks():
        block += chunk
        if end_of_headers(block) >= 0 or len(block) > MAX_QUOTED_HEADERS:
            break
    return block


def _quote(block: bytes, *, utf8: bool) -> bytes:
    """The third part: header fields as they are where that is legal, else encoded (RFC 6522 §4, RFC 6533 §5)."""
    text = block.decode("utf-8", "replace")
    legal = utf8 and not block.isascii() and text.encode() == block and _short_lines(text)
    if legal and (fields := _without_mime(block)):
        return b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + fields
    return _text_part("text/rfc822-headers", text)


def _without_mime(block: bytes) -> bytes:
    """The fields that do not speak of a content: there is none here, and many readers take message/global-headers for a whole
    message. Empty when a line is no header, or there are too many."""
    try:
        headers, _ = parse_headers(block)
    except InvalidMessage:
        return b""
    if headers.defect is not None:
        return b""
    kept = [field for field in headers if not field.name.lower().startswith(("content-", "mime-"))]
    return b"".join(b"%b:%b\r\n" % (field.name.encode(), field.value) for field in kept)


def _text_part(content_type: str, text: str) -> bytes:
    if text.isascii() and _short_lines(text):
        return f"Content-Type: {content_type}\r\n\r\n{text}".encode()
    encoded = binascii.b2a_qp(text.encode(), istext=True)
    head = f'Content-Type: {content_type}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
    return head.encode() + _LINE_END.sub(b"\r\n", encoded)


def _short_lines(text: str) -> bool:
    """Whether 7bit and 8bit may carry it (RFC 2045 §2.7, §2.8)."""
    return "\0" not in text and all(len(line.encode()) <= HARD_LIMIT for line in text.split("\r\n"))
