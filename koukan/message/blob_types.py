"""The media types of a parsed message's blobs, as HTTP says them (message-json.md §2, RFC 9110 §8.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from koukan.message.parameters import render_parameters

_PLAIN_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
#: parameters that an application cannot do without: what is to be done with an invitation (RFC 5546 §1.4)
_KEPT = ("method",)
_LISTS = ("file_attachments", "related_attachments", "text_body", "parts")
_UNKNOWN = "application/octet-stream"
#: a text that comes with all its bytes, as an attached message does
_AS_IT_CAME = "text/rfc822-headers"


def blob_types(spec: Mapping[str, object]) -> dict[str, str]:
    """The Content-Type of each blob that a parsed message names; texts are UTF-8, whatever they were."""
    types: dict[str, str] = {}
    for part in _parts(spec):
        content = part.get("content")
        blob_id = content.get("create_id") if isinstance(content, dict) else None
        if isinstance(blob_id, str):
            types.setdefault(blob_id, _type(part))
    return types


def _parts(node: object) -> Iterator[Mapping[str, object]]:
    """Every part that a document holds, those of the tree with their headers first."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            if "content_type" in current:
                yield current
            stack += [current[name] for name in _LISTS if name in current]
        elif isinstance(current, list):
            stack += reversed(current)


def _type(part: Mapping[str, object]) -> str:
    kind = str(part.get("content_type", "")).lower()
    if not _PLAIN_TYPE.fullmatch(kind):
        return _UNKNOWN
    if not kind.startswith("text/") or kind == _AS_IT_CAME:
        return kind
    declared = _declared(part)
    kept = {name: declared[name] for name in _KEPT if declared.get(name, "").isascii() and declared.get(name)}
    return "; ".join([kind, "charset=utf-8", *render_parameters("", kept).split("; ")[1:]])


def _declared(part: Mapping[str, object]) -> Mapping[str, str]:
    """The parameters of a part's own Content-Type."""
    headers = part.get("headers")
    for pair in headers if isinstance(headers, list) else ():
        if pair[0] == "content-type" and isinstance(pair[1], list):
            return dict(pair[1][1])
    return {}
