"""Header fields from JSON: the `headers` of a builder spec (message-json.md §1.1), a list of [name, value].

Names compare without case. Address lists may hold groups: `{"group": "undisclosed-recipients", "members": [...]}`. What the
message itself decides (MIME-Version and the Content- fields) is ignored, and Bcc is read but never written (RFC 5322 §3.6.3).
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from koukan.errors import InvalidMessage
from koukan.message import lexical
from koukan.message.address import ascii_domain, parse_address
from koukan.message.headers import MAX_FIELDS
from koukan.message.mailboxes import parse_mailboxes
from koukan.message.rendering import (
    Group,
    Named,
    check_name,
    check_text,
    format_date,
    make_date,
    render_ids,
    render_list_id,
    render_mailboxes,
    render_structured,
    render_text,
)

logger = logging.getLogger("koukan.message")

#: fields that hold addresses (RFC 5322 §3.6.2, §3.6.3, §3.6.6)
_MAILBOXES = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc"}
    | {f"resent-{name}" for name in ("from", "sender", "to", "cc", "bcc", "reply-to")}
)
_IDS = frozenset({"message-id", "in-reply-to", "references", "resent-message-id"})
_DATES = frozenset({"date", "resent-date"})
#: fields that a message has at most once (RFC 5322 §3.6)
_ONCE = frozenset(
    {"date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject"}
)
#: fields that software reads: their words are no text, and an encoded one is worth nothing (RFC 2047 §5)
_STRUCTURED = frozenset(
    {f"list-{name}" for name in ("unsubscribe", "unsubscribe-post", "subscribe", "post", "help", "owner", "archive")}
    | {"arc-authentication-results", "arc-message-signature", "arc-seal", "authentication-results", "auto-submitted"}
    | {"accept-language", "autocrypt", "content-language", "dkim-signature", "feedback-id", "received", "return-path"}
    | {"auto-response-suppress", "x-auto-response-suppress", "precedence", "require-recipient-valid-since"}
)
# Ids and URIs in angle brackets are such words in whatever field they are.
_BRACKETED = re.compile(r"(?:[ \t]*<[!-;=?-~]+>,?)+[ \t]*")
_NEVER_WRITTEN = frozenset({"bcc", "resent-bcc"})
_NOT_OURS = frozenset({"mime-version", "content-type", "content-transfer-encoding"})


class _Pair(NamedTuple):
    field: str
    name: str
    value: object


def render_headers(headers: object) -> bytes:
    """The fields in their order, without the blank line. Raises InvalidMessage with the path of what cannot be rendered."""
    seen: set[str] = set()
    rendered: list[bytes] = []
    for field, name, value in _pairs(headers):
        lowered = check_name(name).lower()
        if lowered in _NOT_OURS:
            continue
        if lowered in seen & _ONCE:
            raise InvalidMessage(f"{field}: a second {name} header; a message has one")
        seen.add(lowered)
        try:
            line = _render(name, lowered, value)
        except InvalidMessage as error:
            raise InvalidMessage(f"{field}: {error}") from None
        if lowered not in _NEVER_WRITTEN:
            rendered.append(line)
    return b"".join(rendered)


def add_missing(headers: Sequence[object], now: datetime | None = None) -> list[object]:
    """`headers` with a Date and a Message-ID where they are missing (RFC 5322 §3.6). From is the sender's to give."""
    names: dict[str, object] = {}
    for pair in headers:
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str):
            names.setdefault(pair[0].lower(), pair[1])
    added: list[object] = []
    if "date" not in names:
        moment = datetime.now(UTC) if now is None else now
        added.append(["date", {"unix_secs": int(moment.timestamp()), "tz_offset": 0}])
    if "message-id" not in names:
        added.append(["message-id", [new_message_id(_domain(names.get("from")))]])
    return [*headers, *added]


def new_message_id(domain: str) -> str:
    """A message id without its brackets; the domain is what makes it ours (RFC 5322 §3.6.4)."""
    return f"{secrets.token_hex(16)}@{domain}"


def _pairs(headers: object) -> Iterator[_Pair]:
    if headers is None:
        return
    if not isinstance(headers, list):
        raise InvalidMessage("headers: must be a list of [name, value]")
    if len(headers) > MAX_FIELDS:
        raise InvalidMessage(f"headers: more than {MAX_FIELDS}")
    for i, pair in enumerate(headers):
        if not isinstance(pair, list) or len(pair) != 2:
            logger.warning("headers[%d] is skipped: it is not [name, value]", i)
            continue
        if not isinstance(pair[0], str):
            raise InvalidMessage(f"headers[{i}][0]: must be a string, the name")
        yield _Pair(f"headers[{i}]", pair[0], pair[1])


def _render(name: str, lowered: str, value: object) -> bytes:
    render = _KINDS.get(lowered)
    if render is not None:
        return render(name, value)
    if not isinstance(value, str):
        raise InvalidMessage(f"the value of {name} must be a string")
    if lowered in _STRUCTURED or _BRACKETED.fullmatch(value):
        return render_structured(name, value)
    return render_text(name, value)


def _render_boxes(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return render_mailboxes(name, _read_boxes(name, value))
    boxes = [_box(name, item) for item in _list(name, value)]
    return render_mailboxes(name, boxes) if boxes else b""


def _read_boxes(name: str, text: str) -> list[Named]:
    """Addresses that were given as they stand in a header."""
    parsed = parse_mailboxes(check_text(f"header {name}", text))
    if not parsed.valid:
        raise InvalidMessage(f"header {name}: {text[:200]!r} is no list of addresses")
    return [Named(box.display_name, box.spec) for box in parsed.mailboxes]


def _box(name: str, item: object) -> Named | Group:
    if isinstance(item, dict) and "group" in item:
        members = _list(name, item.get("members", []))
        return Group(_string(name, "group", item["group"]), [_named(name, member) for member in members])
    return _named(name, item)


def _named(name: str, item: object) -> Named:
    if not isinstance(item, dict) or "address" not in item:
        raise InvalidMessage(f'header {name}: an address must be {{"display_name": "…", "address": "…"}}')
    display_name = item.get("display_name")
    return Named(
        "" if display_name is None else _string(name, "display_name", display_name),
        _string(name, "address", item["address"]),
    )


def _render_ids(name: str, value: object) -> bytes:
    ids = value.split() if isinstance(value, str) else [_string(name, "id", item) for item in _list(name, value)]
    if name.lower().endswith("message-id") and len(ids) != 1:
        raise InvalidMessage(f"header {name}: must be one id, got {len(ids)}")
    return render_ids(name, ids) if ids else b""


def _render_list_id(name: str, value: object) -> bytes:
    return render_list_id(name, _string(name, "the value", value))


def _render_date(name: str, value: object) -> bytes:
    if isinstance(value, str):
        try:
            moment = parsedate_to_datetime(check_text(f"header {name}", value))
        except (ValueError, OverflowError):
            raise InvalidMessage(f"header {name}: {value[:200]!r} is no date") from None
        return render_text(name, format_date(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    if not isinstance(value, dict):
        raise InvalidMessage(f'header {name}: must be {{"unix_secs": …, "tz_offset": …}}')
    offset = value.get("tz_offset")
    moment = make_date(
        _seconds(name, "unix_secs", value.get("unix_secs")),
        0 if offset is None else _seconds(name, "tz_offset", offset),
    )
    return render_text(name, format_date(moment))


_KINDS: dict[str, Callable[[str, object], bytes]] = {
    **dict.fromkeys(_MAILBOXES, _render_boxes),
    **dict.fromkeys(_IDS, _render_ids),
    **dict.fromkeys(_DATES, _render_date),
    "list-id": _render_list_id,
}


def _seconds(name: str, what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InvalidMessage(f"header {name}: {what} must be a number of seconds")
    try:
        return int(value)
    except OverflowError:
        raise InvalidMessage(f"header {name}: {what} is out of range") from None


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise InvalidMessage(f"header {name}: must be a list")
    return value


def _string(name: str, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidMessage(f"header {name}: {what} must be a string")
    return value


def _domain(value: object) -> str:
    """The domain of the first author; message ids are ASCII."""
    text = value if isinstance(value, str) else ""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        text = str(value[0].get("address", ""))
    if len(text) <= lexical.MAX_STRUCTURED and isinstance(value, str):
        boxes = parse_mailboxes(text).mailboxes
        text = boxes[0].spec if boxes else ""
    address = parse_address(text)
    domain = None if address is None or address.literal is not None else ascii_domain(address.domain)
    return domain or "localhost"
