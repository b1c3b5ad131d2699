"""A message as JSON, for applications that do not want to know MIME (message-json.md §2).

`MessageParser` takes the message in pieces, so that a large one is never in memory: what is not small text goes to one spool,
of which the blobs are slices. It never fails: what is broken is read as far as it goes, and the raw message goes along anyway.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from koukan.blob.slices import SliceBody
from koukan.blob.spool import SpooledBody
from koukan.errors import InvalidMessage
from koukan.message import charset
from koukan.message.decoding import TextDecoder, decoder, line_end_length
from koukan.message.flattening import flatten
from koukan.message.header_json import HeaderReader
from koukan.message.headers import MAX_HEADER_BYTES, Headers, parse_headers
from koukan.message.mime import Part, Splitter
from koukan.model import Body

#: bytes of text that go into the document itself; the rest are blobs
MAX_INLINE = 64 * 1024
#: parts of one message, each of which may become an upload; what is beyond them counts to the last one
MAX_PARTS = 1000
#: containers within each other; deeper ones are contents like any other
MAX_DEPTH = 10

_HEADERS_ONLY = "text/rfc822-headers"


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """The document, and the bytes of its blobs by the ids in it. `close` frees them."""

    document: dict[str, Any]
    blobs: dict[str, Body]
    spool: SpooledBody

    def close(self) -> None:
        self.spool.close()


class MessageParser(Splitter):
    """One message: `feed` it, then ask for the `result`."""

    def __init__(self, *, max_inline: int = MAX_INLINE, spool_directory: str | None = None) -> None:
        super().__init__(max_parts=MAX_PARTS, max_depth=MAX_DEPTH)
        self._spool = SpooledBody(spool_directory)
        self._max_inline = max_inline
        self._inlined = 0
        self._open_leaf: _Leaf | None = None
        #: what leaves hold: text for the document, or a blob
        self._contents: dict[Part, str | SliceBody] = {}
        #: contents that are header fields: what is read of them
        self._header_blocks: dict[Part, bytes] = {}
        self._header_reader = HeaderReader()
        self._blobs: dict[str, Body] = {}

    def content(self, part: Part, data: bytes) -> None:
        leaf = self._open_leaf
        if leaf is None or leaf.part is not part:
            self._end_leaf()
            leaf = self._open_leaf = _Leaf(part, self._spool, self._max_inline - self._inlined)
        leaf.feed(data)

    def result(self, raw: Body) -> ParsedMessage:
        """All of it was fed: what it is. May be asked for once. `raw` is the message; attached messages are slices of it."""
        root = self.finish()
        self._end_leaf()
        parts = self._part(root)
        lists = flatten(root, parts, lambda part: self._whole(part, raw))
        self._spool.finish()
        return ParsedMessage({"parts": parts, **lists}, self._blobs, self._spool)

    def close(self) -> None:
        """Free what is held, when no result will be asked for."""
        self._spool.close()

    def _end_leaf(self) -> None:
        leaf, self._open_leaf = self._open_leaf, None
        if leaf is not None:
            found = self._contents[leaf.part] = leaf.end()
            if leaf.header_block is not None:
                self._header_blocks[leaf.part] = leaf.header_block
            if isinstance(found, str):
                self._inlined += len(found.encode())

    def _part(self, part: Part) -> dict[str, Any]:
        content_type = part.content_type.value
        out: dict[str, Any] = {"headers": self._header_reader.read(part.headers), "content_type": content_type}
        if content_type == _HEADERS_ONLY:
            out["parts"] = [{"headers": self._header_reader.read(_headers(self._header_blocks.get(part, b"")))}]
        elif part.children or (part.maintype == "multipart" and part not in self._contents):
            out["parts"] = [self._part(child) for child in part.children]
        else:
            out["content"] = self._content(part)
        return out

    def _content(self, part: Part) -> dict[str, str]:
        found = self._contents.get(part)
        if found is None:  # a part without content
            is_text = part.maintype == "text" and self._inlined < self._max_inline
            found = "" if is_text else SliceBody(self._spool, 0, 0)
        return {"inline": found} if isinstance(found, str) else self._add_blob(found)

    def _whole(self, part: Part, raw: Body) -> dict[str, str]:
        """The content of a part that has parts in the document."""
        found = self._contents.get(part)
        return self._add_blob(
            found if isinstance(found, SliceBody) else SliceBody(raw, part.start, part.end - part.start)
        )

    def _add_blob(self, blob: Body) -> dict[str, str]:
        blob_id = str(len(self._blobs))
        self._blobs[blob_id] = blob
        return {"create_id": blob_id}


def _headers(block: bytes) -> Headers:
    """The fields that are the content of a part; none when there are too many."""
    try:
        return parse_headers(block)[0]
    except InvalidMessage:
        return Headers([])


class _Leaf:
    """The content of one part while it passes: out of its encoding, and where it belongs."""

    def __init__(self, part: Part, spool: SpooledBody, room: int) -> None:
        self.part = part
        self._spool = spool
        self._begin = spool.size
        self._decoder = decoder(part.encoding)
        self._kind = _Kind.of(part)
        self._text = TextDecoder(part.content_type.params.get("charset", charset.UNNAMED))
        #: what may become part of the document, as long as it fits
        self._small: bytearray | None = bytearray() if self._kind is _Kind.TEXT else None
        #: what is read of header fields
        self._head = bytearray()
        self._room = room
        #: the last line end, which may belong to the delimiter that follows
        self._held = b""
        self._seen = 0

    def feed(self, data: bytes) -> None:
        self._seen += len(data)
        data = self._held + data if self._held else data
        cut = len(data) - line_end_length(data[-2:])
        self._held = data[cut:]
        self._take(self._decoder.feed(data[:cut]))

    @property
    def header_block(self) -> bytes | None:
        """The header fields that the content is; None for any other."""
        return bytes(self._head) if self._kind is _Kind.HEADERS else None

    def end(self) -> str | SliceBody:
        """What the content is, now that it is known where it ends: text for the document, or a blob."""
        surplus = self._seen - (self.part.end - self.part.start)
        held = self._held[: max(0, len(self._held) - surplus)]
        self._take(self._decoder.feed(held) + self._decoder.end(), final=True)
        if self._small is None:
            return SliceBody(self._spool, self._begin, self._spool.size - self._begin)
        return self._small.decode()

    def _take(self, data: bytes, *, final: bool = False) -> None:
        if self._kind is _Kind.TEXT:
            data = self._text.feed(data, final=final).encode()
        elif self._kind is _Kind.HEADERS:
            self._head += data[: MAX_HEADER_BYTES - len(self._head)]
        if self._small is None:
            self._spool.append(data)
        elif len(self._small) + len(data) < self._room:
            self._small += data
        else:
            self._spool.append(bytes(self._small) + data)
            self._small = None


class _Kind(enum.Enum):
    """What becomes of a content."""

    TEXT = enum.auto()
    HEADERS = enum.auto()
    BINARY = enum.auto()

    @classmethod
    def of(cls, part: Part) -> _Kind:
        if part.content_type.value == _HEADERS_ONLY:
            return cls.HEADERS
        return cls.TEXT if part.maintype == "text" else cls.BINARY
