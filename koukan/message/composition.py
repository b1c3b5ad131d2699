"""A message from a builder document and its blobs (message-json.md §1.2, §1.3; RFC 2045, 2046, 2387).

`compose` looks at the document only, so that a bad one is refused before its blobs have arrived. The message is made while it
is read, in pieces of the size in which its blobs come: the same bytes each time, without ever being in memory as a whole.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from koukan.errors import InvalidMessage
from koukan.message.builder import MAX_PARTS, PART_LISTS
from koukan.message.header_spec import add_missing, render_headers
from koukan.message.lexical import check_length
from koukan.message.parameters import parse_content_type, render_parameters
from koukan.message.rendering import check_text, render_ids, render_parameterized
from koukan.message.transfer import Measure, base64_length, encode_base64, in_turns, is_utf8, measure, with_line_ends
from koukan.model import Body
from koukan.model.values import Json


@dataclass(slots=True)
class _PartHead:
    """What the document says of a part. A text of the message is UTF-8; one that is a file has the charset it came with."""

    content_type: str
    params: dict[str, str]
    #: of a text; None: not declared, and what its bytes are shows when they are there
    charset: str | None
    must_be_utf8: bool
    #: the header fields but for Content-Type and Content-Transfer-Encoding
    fields: bytes

    @property
    def is_text(self) -> bool:
        return self.content_type.startswith("text/")

    def render(self) -> bytes:
        charset = {} if self.charset is None else {"charset": self.charset}
        value = render_parameters(self.content_type, {**charset, **self.params})
        return render_parameterized("Content-Type", value) + self.fields


@dataclass(eq=False)
class _Leaf:
    """A part with content of its own. `measure` is known once a content that is not encoded has been looked at."""

    field: str
    about: _PartHead
    content: Body
    measure: Measure | None = None

    @property
    def content_type(self) -> str:
        return self.about.content_type

    @property
    def encoded(self) -> bool:
        """Not what holds messages: encoded, nobody may read it (RFC 2046 §5.2); for the types of RFC 6532 it may be."""
        return not self.content_type.startswith("message/") or self.content_type.startswith("message/global")

    @property
    def needs_8bit(self) -> bool:
        return self.measure is not None and not self.measure.ascii

    @property
    def length(self) -> int | None:
        if self.encoded:
            return None if self.content.length is None else base64_length(self.content.length)
        return None if self.measure is None else self.measure.length

    def head(self) -> bytes:
        encoding = b"base64" if self.encoded else b"8bit" if self.needs_8bit else b"7bit"
        return self.about.render() + b"Content-Transfer-Encoding: %b\r\n\r\n" % encoding

    async def check(self) -> None:
        """Wait for a content that must be looked at before it is written. Raises InvalidMessage, BodyAborted."""
        if not self.encoded:
            self.measure = self.measure or await measure(self.content)
        elif self.about.is_text and self.about.charset is None and await is_utf8(self.content):
            self.about.charset = "utf-8"
        elif self.about.must_be_utf8 and not await is_utf8(self.content):
            raise InvalidMessage(f"{self.field}.content: text must be UTF-8")

    async def chunks(self, start: int) -> AsyncIterator[bytes]:
        async for chunk in encode_base64(self.content, start) if self.encoded else with_line_ends(self.content):
            if self.encoded or start == 0:
                yield chunk
            elif start < len(chunk):
                yield chunk[start:]
            start = 0 if self.encoded else max(0, start - len(chunk))


@dataclass(eq=False)
class _Multipart:
    subtype: str
    children: Sequence[_Part]
    params: dict[str, str] = field(default_factory=dict)
    boundary: str = field(default_factory=lambda: f"={secrets.token_hex(16)}")

    @property
    def needs_8bit(self) -> bool:
        return any(child.needs_8bit for child in self.children)

    def head(self) -> bytes:
        value = render_parameters(f"multipart/{self.subtype}", {**self.params, "boundary": self.boundary})
        encoding = b"Content-Transfer-Encoding: 8bit\r\n" if self.needs_8bit else b""
        return render_parameterized("Content-Type", value) + encoding + b"\r\n"


_Part = _Leaf | _Multipart


def compose(document: Json, blobs: Mapping[str, Body]) -> ComposedBody:
    """The message of a document in its stored form. Raises InvalidMessage with the path of what cannot be rendered."""
    headers = document.get("headers") or []
    if isinstance(headers, list):
        headers = add_missing(headers)
    head = render_headers(headers) + b"MIME-Version: 1.0\r\n"
    texts, related, files = (_leaves(document, name, blobs) for name in PART_LISTS)
    return ComposedBody(head, _structure(texts, related, files))


class ComposedBody(Body):
    """A message that is made while it is read."""

    def __init__(self, head: bytes, root: _Part | None) -> None:
        self._head = head
        self._root = root
        self._leaves = _leaves_of(root)
        self._checked = asyncio.Lock()
        self._segments: list[bytes | _Leaf] | None = None
        self.replayable = all(leaf.content.replayable for leaf in self._leaves)

    @property
    def length(self) -> int | None:
        if self._segments is None:
            return None
        total = 0
        for segment in self._segments:
            length = len(segment) if isinstance(segment, bytes) else segment.length
            if length is None:
                return None
            total += length
        return total

    @property
    def complete(self) -> bool:
        return all(leaf.content.complete for leaf in self._leaves)

    async def wait_complete(self) -> None:
        """Raises InvalidMessage as well, for a text that is none."""
        for leaf in self._leaves:
            await leaf.content.wait_complete()
        await self.check()

    async def check(self) -> None:
        """Look at the contents that decide how the message is written, and wait for them. Raises InvalidMessage."""
        async with self._checked:
            if self._segments is None:
                for leaf in self._leaves:
                    await leaf.check()
                self._segments = _segments(self._head, self._root)

    def abort(self, reason: str) -> None:
        for leaf in self._leaves:
            leaf.content.abort(reason)

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        await self.check()
        for segment in self._segments or ():
            length = len(segment) if isinstance(segment, bytes) else segment.length
            if length is not None and start >= length:
                start -= length
                continue
            if isinstance(segment, bytes):
                yield segment[start:]
            else:
                async for chunk in in_turns(segment.chunks(start)):
                    yield chunk
            start = 0


# --- structure --------------------------------------------------------------------------------------------------------------


def _structure(texts: list[_Leaf], related: list[_Leaf], files: list[_Leaf]) -> _Part | None:
    """mixed(alternative(plain, related(html, pictures)), files), without the wrappers that hold nothing."""
    # The last alternative is the one that readers prefer (RFC 2046 §5.1.4), so plain text goes first.
    bodies: list[_Part] = [*sorted(texts, key=lambda leaf: leaf.content_type != "text/plain")]
    if related:
        at = next((i for i, leaf in enumerate(bodies) if _is_html(leaf)), len(bodies) - 1)
        root = bodies[at : at + 1] if bodies else []
        kind = next((leaf.content_type for leaf in (*root, *related) if isinstance(leaf, _Leaf)), "text/plain")
        wrapped = _Multipart("related", [*root, *related], {"type": kind})
        bodies[max(at, 0) : at + 1] = [wrapped]
    root_part = _Multipart("alternative", bodies) if len(bodies) > 1 else bodies[0] if bodies else None
    if files:
        return _Multipart("mixed", [*([root_part] if root_part else []), *files])
    return root_part


def _is_html(part: _Part) -> bool:
    return isinstance(part, _Leaf) and part.content_type == "text/html"


def _leaves_of(part: _Part | None) -> list[_Leaf]:
    if part is None:
        return []
    return [part] if isinstance(part, _Leaf) else [leaf for child in part.children for leaf in _leaves_of(child)]


def _segments(head: bytes, root: _Part | None) -> list[bytes | _Leaf]:
    """The message as bytes and the contents between them."""
    if root is None:
        return [head + b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"]
    pieces = [head, *_written(root)]
    merged: list[bytes | _Leaf] = []
    for piece in pieces:
        if isinstance(piece, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _written(part: _Part) -> list[bytes | _Leaf]:
    if isinstance(part, _Leaf):
        return [part.head(), part]
    pieces: list[bytes | _Leaf] = [part.head()]
    delimiter = b"--%b\r\n" % part.boundary.encode()
    for child in part.children:
        pieces += [delimiter, *_written(child), b"\r\n"]
    return [*pieces, b"--%b--\r\n" % part.boundary.encode()]


# --- parts ------------------------------------------------------------------------------------------------------------------


def _leaves(document: Json, name: str, blobs: Mapping[str, Body]) -> list[_Leaf]:
    parts = document.get(name)
    if parts is None:
        return []
    if not isinstance(parts, list):
        raise InvalidMessage(f"{name}: must be a list of parts")
    if len(parts) > MAX_PARTS:
        raise InvalidMessage(f"{name}: more than {MAX_PARTS} parts")
    return [_leaf(name, f"{name}[{i}]", part, blobs) for i, part in enumerate(parts)]


def _leaf(name: str, path: str, part: object, blobs: Mapping[str, Body]) -> _Leaf:
    if not isinstance(part, dict):
        raise InvalidMessage(f"{path}: must be a JSON object with content_type and content")
    content = part.get("content")
    blob_id = content.get("create_id") if isinstance(content, dict) else None
    if not isinstance(blob_id, str) or blob_id not in blobs:
        raise InvalidMessage(f"{path}.content: there is no blob {blob_id!r}")
    return _Leaf(path, _part_head(name, path, part), blobs[blob_id])


def check_part(name: str, path: str, part: Json) -> None:
    """Raises InvalidMessage for a part, of the list `name`, whose head cannot be rendered."""
    _part_head(name, path, part).render()


def _part_head(name: str, path: str, part: Json) -> _PartHead:
    content_type, params = _content_type(path, part.get("content_type"))
    fields = _disposition(name, path, part.get("filename"))
    if (content_id := part.get("content_id")) is not None:
        fields += render_ids("Content-ID", [_string(f"{path}.content_id", content_id)])
    charset = params.pop("charset", None)
    is_text = content_type.startswith("text/")
    must_be_utf8 = is_text and name == "text_body"
    return _PartHead(
        content_type, params, "utf-8" if must_be_utf8 else charset if is_text else None, must_be_utf8, fields
    )


def _content_type(path: str, value: object) -> tuple[str, dict[str, str]]:
    path = f"{path}.content_type"
    parsed = parse_content_type(_string(path, value))
    if not parsed.valid:
        raise InvalidMessage(f"{path}: {value!r} is no type/subtype")
    if parsed.value.startswith("multipart/"):
        raise InvalidMessage(f"{path}: {value!r} is made from parts, it cannot be one")
    return parsed.value, {name: check_text(path, text) for name, text in parsed.params.items()}


def _disposition(name: str, path: str, filename: object) -> bytes:
    if name == "related_attachments":
        return b"Content-Disposition: inline\r\n"
    if filename is None:
        return b"Content-Disposition: attachment\r\n" if name == "file_attachments" else b""
    text = check_text(f"{path}.filename", _string(f"{path}.filename", filename))
    check_length(text)
    return render_parameterized("Content-Disposition", render_parameters("attachment", {"filename": text}))


def _string(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidMessage(f"{path}: must be a string")
    return value
