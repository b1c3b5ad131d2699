"""Header fields as JSON, for receivers of parsed mail (message-json.md §2). Whatever a field holds, it has a value."""

from __future__ import annotations

import calendar
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
        text = field.text
        parse = _STRUCTURED.get(field.name.lower())
        if parse is None or len(text) > self._structured_left:
            return encoded_words.decode(text)
        self._structured_left -= len(text)
        try:
            return parse(text)
        except (InvalidMessage, ValueError, OverflowError):
            # What is no date or no type is of more use to a receiver as it stands than left out.
            return encoded_words.decode(text)


def _mailboxes(text: str) -> list[object]:
    boxes = parse_mailboxes(text).mailboxes
    return [{"display_name": box.display_name, "address": box.spec} for box in boxes if box.spec or box.display_name]


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


def _message_id(text: str) -> str:
    text, _ = lexical.strip_comments(text)
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _parameterized(parsed: Parameterized) -> list[object]:
    return [parsed.value, parsed.params]


_STRUCTURED: dict[str, Callable[[str], Value]] = {
    **dict.fromkeys(("from", "to", "cc", "bcc"), _mailboxes),
    "date": _date,
    "message-id": _message_id,
    "content-type": lambda text: _parameterized(parse_content_type(text)),
    "content-disposition": lambda text: _parameterized(parse_disposition(text)),
}
