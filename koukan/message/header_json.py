"""Header fields as JSON, for receivers of parsed mail (message-json.md §2). Whatever a field holds, it has a value."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_tz

from koukan.errors import InvalidMessage
from koukan.message import encoded_words, lexical
from koukan.message.headers import MAX_FIELDS, Field, Headers
from koukan.message.mailboxes import parse_mailboxes
from koukan.message.parameters import Parameterized, parse_content_type, parse_disposition

#: characters of structured fields that are taken apart in one message; the worst that fits is read in a quarter of a second
MAX_STRUCTURED = 128 * 1024
#: characters of a date that is looked at; proper ones have 31 and perhaps a comment
_LONGEST_DATE = 200

_IN_BRACKETS = re.compile(r"<([^<>]++)>")
#: fields that hold addresses: RFC 5322 §3.6.2, §3.6.3, §3.6.6, RFC 8098 §2.1, RFC 9057, and those that programs have added
_MAILBOX_FIELDS = (
    *("from", "sender", "reply-to", "to", "cc", "bcc"),
    *("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc", "resent-reply-to"),
    *("disposition-notification-to", "return-receipt-to", "author"),
    *("mail-followup-to", "mail-reply-to", "errors-to", "apparently-to"),
)

Value = str | list[object] | dict[str, int]


class HeaderReader:
    """Reads the fields of one message and of all its parts, within bounds: what is beyond them stays text, or is left out."""

    def __init__(self) -> None:
        self._fields_left = MAX_FIELDS
        self._structured_left = MAX_STRUCTURED

    def read(self, headers: Headers) -> list[list[object]]:
        """The fields as [lower-cased name, value], in their order."""
        fields = headers.fields[: self._fields_left]
        self._fields_left -= len(fields)
        return [[field.name.lower(), self._value(field)] for field in fields]

    def _value(self, field: Field) -> Value:
        text = field.octet_text
        parse = _STRUCTURED.get(field.name.lower())
        if parse is None:
            return encoded_words.decode(text)
        # Not taken apart, a structured field stays encoded as well: what is in an encoded word is no address and no parameter.
        if len(text) > self._structured_left:
            return encoded_words.harmless(text)
        self._structured_left -= len(text)
        try:
            return parse(text)
        except (InvalidMessage, ValueError, OverflowError):
            # What is no date or no type is of more use to a receiver as it stands than left out.
            return encoded_words.harmless(text)


def _mailboxes(text: str) -> list[object]:
    return [
        {"display_name": box.display_name, "address": encoded_words.harmless(box.spec)}
        for box in parse_mailboxes(text).mailboxes
        if box.spec or box.display_name
    ]


def _date(text: str) -> dict[str, int]:
    """Raises ValueError or OverflowError for what is no date. A date without zone, or with -0000, is UTC (RFC 5322 §3.3)."""
    parts = parsedate_tz(text) if len(text) <= _LONGEST_DATE else None
    if parts is None:
        raise ValueError("no date")
    year, month, day, hour, minute, second = parts[:6]
    offset = parts[9] or 0
    # A leap second is the last one of its minute to everybody else.
    zone = timezone(timedelta(seconds=offset))
    moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
    return {"unix_secs": calendar.timegm(moment.utctimetuple()), "tz_offset": offset}


def _message_ids(text: str) -> str:
    """Message ids without their brackets, a space between them; what stands around them means nothing (§3.6.4, §4.5.4)."""
    bare, _ = lexical.strip_comments(text)
    ids = [found.strip(" \t") for found in _IN_BRACKETS.findall(bare)]
    return encoded_words.harmless(" ".join(ids) if ids else bare)


def _parameterized(parsed: Parameterized) -> list[object]:
    return [parsed.value, parsed.params]


_STRUCTURED: dict[str, Callable[[str], Value]] = {
    **dict.fromkeys(_MAILBOX_FIELDS, _mailboxes),
    **dict.fromkeys(("date", "resent-date"), _date),
    **dict.fromkeys(("message-id", "resent-message-id", "in-reply-to", "references"), _message_ids),
    "content-type": lambda text: _parameterized(parse_content_type(text)),
    "content-disposition": lambda text: _parameterized(parse_disposition(text)),
}
