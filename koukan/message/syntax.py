"""Whether a header field keeps to its syntax, as Python's email package judges it with its defects (RFC 5322, RFC 2045).

Free text has no syntax to break: a Subject may hold whatever its encoding can.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from koukan.message import lexical
from koukan.message.headers import Field
from koukan.message.mailboxes import parse_mailboxes
from koukan.message.parameters import TOKEN, parse_content_type, parse_disposition

_ATOM = r"[^\x00-\x20\x7f()<>\[\]:;@\\,.\"]++"
_DOT_ATOM = rf"{_ATOM}(?:\.{_ATOM})*+"
_MESSAGE_ID = re.compile(rf"<{_DOT_ATOM}@(?:{_DOT_ATOM}|\[[^\[\]\\\x00-\x20\x7f]*\])>")
# What most address fields are, and what takes a tenth of the time to recognise: names of atoms, addresses in brackets.
_PLAIN = rf"(?:{_ATOM}(?: {_ATOM})*+ <{_DOT_ATOM}@{_DOT_ATOM}>|{_DOT_ATOM}@{_DOT_ATOM})"
_PLAIN_LIST = re.compile(rf"{_PLAIN}(?:, ?{_PLAIN})*+")
_MIME_VERSION = re.compile(r"\d+[ \t]*\.[ \t]*\d+")


class SyntaxCheck:
    """Judges the fields of one message. Structured fields share a budget of characters: they take the most time."""

    def __init__(self, *, smtputf8: bool) -> None:
        self._smtputf8 = smtputf8
        self._budget = lexical.MAX_STRUCTURED

    def defect(self, field: Field) -> str | None:
        """What is wrong with a field; None when nothing is."""
        check = _CHECKS.get(field.name.lower())
        if check is None:
            return None
        text = field.text
        if not text.isascii() and not (self._smtputf8 and _is_utf8(field.value)):
            return "octets that are no ASCII"
        self._budget -= len(text)
        return check(text) if self._budget >= 0 else "too long to be looked at"


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _addresses(text: str) -> str | None:
    if _PLAIN_LIST.fullmatch(text) and "=?" not in text:
        return None
    return None if parse_mailboxes(text).valid else "not a list of addresses"


def _date(text: str) -> str | None:
    try:
        parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return "not a date"
    return None


def _message_id(text: str) -> str | None:
    bare, valid = lexical.strip_comments(text)
    return None if valid and _MESSAGE_ID.fullmatch(bare) else "not a message id"


def _content_type(text: str) -> str | None:
    return None if parse_content_type(text).valid else "not a type with parameters"


def _disposition(text: str) -> str | None:
    return None if parse_disposition(text).valid else "not a disposition with parameters"


def _transfer_encoding(text: str) -> str | None:
    bare, valid = lexical.strip_comments(text)
    return None if valid and TOKEN.fullmatch(bare) else "not a token"


def _mime_version(text: str) -> str | None:
    bare, valid = lexical.strip_comments(text)
    return None if valid and _MIME_VERSION.fullmatch(bare) else "not a version"


#: checks by field name, for the fields whose syntax Python's email package knows
_CHECKS: dict[str, Callable[[str], str | None]] = {
    **dict.fromkeys(("from", "sender", "reply-to", "to", "cc", "bcc"), _addresses),
    **dict.fromkeys(("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc"), _addresses),
    **dict.fromkeys(("date", "resent-date", "orig-date"), _date),
    "message-id": _message_id,
    "content-type": _content_type,
    "content-disposition": _disposition,
    "content-transfer-encoding": _transfer_encoding,
    "mime-version": _mime_version,
}
