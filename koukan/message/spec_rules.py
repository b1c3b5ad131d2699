"""What a builder spec must hold when it arrives, so that whoever wrote it hears at once what is wrong (message-json.md §1).

koukan.message.builder and koukan.message.composition take what this refuses as far as it can be rendered: specs that are stored
already are sent.
"""

from __future__ import annotations

import re

from koukan.errors import InvalidDocument
from koukan.message.builder import PART_LISTS, parse_spec
from koukan.message.composition import check_part
from koukan.message.header_spec import render_headers
from koukan.model.values import Json, allow_only, as_list, as_object

#: members of a spec, the likelier meaning of a misspelt one first
MEMBERS = ("headers", "text_body", "file_attachments", "related_attachments")
#: members of one part
PART_MEMBERS = ("content_type", "content", "filename", "content_id")
#: members of a part's content
CONTENT_MEMBERS = ("inline", "create_id", "reuse_uri")

#: members of an address, of a group of addresses, and of a date in a header field
ADDRESS_MEMBERS = ("display_name", "address")
GROUP_MEMBERS = ("group", "members")
DATE_MEMBERS = ("unix_secs", "tz_offset")

# What belongs into `headers`, and is given beside it by those who know other programs.
_HEADERS = frozenset({"from", "to", "cc", "bcc", "subject", "date", "reply_to", "reply-to", "message-id", "message_id"})
_FROM = re.compile(rb"^from:", re.IGNORECASE | re.MULTILINE)


def check_spec(spec: Json) -> bytes:
    """Refuse what would be sent in another form than was meant, or empty. Answers the header fields as they are written.

    Raises InvalidDocument or InvalidMessage, which name the path within the spec.
    """
    _check_members(spec)
    for name in PART_LISTS:
        for i, part in enumerate(as_list(name, spec.get(name, []))):
            _check_part(name, f"{name}[{i}]", as_object(f"{name}[{i}]", part))
    if not any(spec.get(name) for name in PART_LISTS):
        raise InvalidDocument(
            "text_body" if "text_body" in spec else "",
            "the message has no content: give it a text_body or attachments; a text may be empty",
        )
    parse_spec(spec)
    return _check_headers(spec.get("headers", []))


def _check_members(spec: Json) -> None:
    for name, value in spec.items():
        if name in _HEADERS:
            raise InvalidDocument(name, 'is a header field: it goes into "headers", a list of [name, value]')
        if value is None and name in MEMBERS:
            raise InvalidDocument(name, "must not be null; leave it out")
    allow_only("", spec, MEMBERS)


def _check_part(name: str, path: str, part: Json) -> None:
    for member, value in part.items():
        if value is None and member in PART_MEMBERS:
            raise InvalidDocument(f"{path}.{member}", "must not be null; leave it out")
    allow_only(path, part, PART_MEMBERS)
    for member in ("content_type", "content"):
        if member not in part:
            raise InvalidDocument(f"{path}.{member}", "is required")
    allow_only(f"{path}.content", as_object(f"{path}.content", part["content"]), CONTENT_MEMBERS)
    check_part(name, path, part)


def _check_headers(headers: object) -> bytes:
    for i, pair in enumerate(as_list("headers", headers)):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidDocument(f"headers[{i}]", "must be [name, value]")
        _check_value(f"headers[{i}][1]", pair[1])
    rendered = render_headers(headers)
    if not _FROM.search(rendered):
        raise InvalidDocument("headers", 'a message needs a From: ["from", [{"address": "ann@example.com"}]]')
    return rendered


def _check_value(path: str, value: object) -> None:
    """Refuse members of addresses, groups and dates that would be left out in silence."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_value(f"{path}[{i}]", item)
    elif isinstance(value, dict):
        allow_only(path, value, GROUP_MEMBERS if "group" in value else _members_of(value))
        _check_value(f"{path}.members", value.get("members"))


def _members_of(value: Json) -> tuple[str, ...]:
    return DATE_MEMBERS if "unix_secs" in value or "tz_offset" in value else ADDRESS_MEMBERS
