"""The builder spec: the document by which an application describes a message (message-json.md §1).

`parse_spec` takes it apart when it arrives: what each part's content is and where its bytes come from. Whether it can be
rendered, koukan.message.composition says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from koukan.errors import InvalidDocument
from koukan.message.header_spec import add_missing
from koukan.message.parameters import parse_content_type, render_parameters
from koukan.model.values import Json

#: the lists of parts, in the order in which their running index counts
PART_LISTS = ("text_body", "related_attachments", "file_attachments")
#: parts of one message: a hundred times what people send, and each is a blob of its own
MAX_PARTS = 1000
#: bytes of text in one part's `inline`: what is larger has its own upload
MAX_INLINE = 16 * 1024 * 1024

# What stands in a path as it is (RFC 3986 §3.3): a blob is uploaded to …/blob/{id}.
_BLOB_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9\-._~!$&'()*+,;=:@]{1,200}")
_FORMS = ("reuse_uri", "create_id", "inline")


@dataclass(frozen=True, slots=True)
class BlobSource:
    """Where the bytes of a part come from: here, from an earlier transaction, or (both None) by PUT."""

    inline: bytes | None = None
    reuse_uri: str | None = None


@dataclass(frozen=True, slots=True)
class BuilderSpec:
    """A spec in its stored form: every part's content in `document` is `{"create_id": id}`, `sources` says what each id is.

    Date and Message-ID are in it, so that every attempt and every recipient gets the same message.
    """

    document: Json
    sources: Mapping[str, BlobSource]


def parse_spec(spec: Json) -> BuilderSpec:
    """The stored form of a spec. Ids by rest-api.md §3.2. Raises InvalidDocument with the path of the field."""
    document = dict(spec)
    sources: dict[str, BlobSource] = {}
    index = 0
    for name in PART_LISTS:
        if spec.get(name) is None:
            document.pop(name, None)
            continue
        parts = []
        for field, part in _parts(name, spec[name]):
            blob_id, source = _source(f"{field}.content", part.get("content"), index)
            if blob_id in sources:
                raise InvalidDocument(f"{field}.content", f"a second blob with id {blob_id!r}; ids must be unique")
            sources[blob_id] = source
            if source.inline is not None:
                part = _as_utf8(part)
            parts.append({**part, "content": {"create_id": blob_id}})
            index += 1
            if index > MAX_PARTS:
                raise InvalidDocument(field, f"more than {MAX_PARTS} parts")
        document[name] = parts
    if isinstance(headers := spec.get("headers", []), list):
        document["headers"] = add_missing(headers)
    return BuilderSpec(document, sources)


def _parts(name: str, value: object) -> Iterator[tuple[str, Json]]:
    if not isinstance(value, list):
        raise InvalidDocument(name, "must be a list of parts")
    for i, part in enumerate(value):
        if not isinstance(part, dict):
            raise InvalidDocument(f"{name}[{i}]", "must be a JSON object with content_type and content")
        yield f"{name}[{i}]", cast("Json", part)


def _as_utf8(part: Json) -> Json:
    """A part whose content came as text, which is UTF-8 from now on, whatever charset its type names."""
    kind = part.get("content_type")
    if not isinstance(kind, str) or "charset" not in kind.lower() or not (parsed := parse_content_type(kind)).valid:
        return part
    params = {name: text for name, text in parsed.params.items() if name != "charset"}
    return {**part, "content_type": render_parameters(parsed.value, params)}


def _source(field: str, content: object, index: int) -> tuple[str, BlobSource]:
    """The id of a part's blob and its source. `reuse_uri` counts first and may stand beside others."""
    forms = [form for form in _FORMS if form in content] if isinstance(content, dict) else []
    if not isinstance(content, dict) or not forms or (len(forms) > 1 and forms[0] != "reuse_uri"):
        raise InvalidDocument(field, f"must be a JSON object with one of {', '.join(_FORMS)}")
    value = content[forms[0]]
    field = f"{field}.{forms[0]}"
    if not isinstance(value, str):
        raise InvalidDocument(field, "must be a string")
    if forms[0] == "inline":
        return f"inline{index}", BlobSource(inline=_inline(field, value))
    if forms[0] == "create_id":
        return _blob_id(field, value), BlobSource()
    return _blob_id(field, _last_element(field, value)), BlobSource(reuse_uri=value)


def _inline(field: str, text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidDocument(field, "must be text without lone surrogates") from None
    if len(data) > MAX_INLINE:
        raise InvalidDocument(field, f"longer than {MAX_INLINE} bytes; use create_id and upload it")
    return data


def _last_element(field: str, uri: str) -> str:
    try:
        return urlsplit(uri).path.rpartition("/")[2]
    except ValueError:
        raise InvalidDocument(field, f"{uri!r} is no URI") from None


def _blob_id(field: str, blob_id: str) -> str:
    if not _BLOB_ID.fullmatch(blob_id):
        raise InvalidDocument(
            field, f"{blob_id[:200]!r} is no blob id: up to 200 letters, digits and -._~!$&'()*+,;=:@"
        )
    if blob_id == "body":
        raise InvalidDocument(field, "the id 'body' stands for the whole message; choose another")
    return blob_id
