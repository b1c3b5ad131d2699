"""The parts of a MIME message, found in one pass over bytes that may come in pieces (RFC 2046 §5).

Nothing is decoded and no content is kept: a part knows where in the message its content is. What Python's email package calls
defects of the structure is noted at the part, in the same cases. Time is linear in the size of the message; parts, depth and
header fields are bounded.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from koukan.errors import InvalidMessage
from koukan.message import lexical
from koukan.message.headers import MAX_FIELDS, MAX_HEADER_BYTES, Headers, end_of_headers, parse_headers
from koukan.message.parameters import Parameterized, parse_content_type

#: parts of one message: a hundred times what mail has
MAX_PARTS = 10_000
#: containers within each other, messages included: every answer that quotes its forerunner whole adds two
MAX_DEPTH = 50
#: octets of a line that may be a delimiter: no boundary has more than 70 (RFC 2046 §5.1.1), no line more than these
MAX_DELIMITER = 998

_NO_HEADERS = Headers([])
_LINE = re.compile(rb"[^\r\n]*+")
_DASHES_AFTER_CR = re.compile(rb"[\r\n](?=--)")
_FIELD_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_TRANSPARENT = frozenset({"7bit", "8bit", "binary"})
_STATUS = "message/delivery-status"


@dataclass(slots=True, eq=False)
class Part:
    """One entity. Its content is the message's bytes from `start` to `end`, still in its transfer encoding."""

    #: containers around it
    depth: int
    start: int
    end: int = -1
    headers: Headers = _NO_HEADERS
    #: what Content-Type says, or the default (RFC 2045 §5.2, RFC 2046 §5.1.5)
    content_type: Parameterized = field(default_factory=lambda: Parameterized("text/plain"))
    #: Content-Transfer-Encoding, lower-cased
    encoding: str = "7bit"
    #: entities within: of a multipart, of a message (one), of a delivery status (one for each block)
    children: list[Part] = field(default_factory=list)
    #: a multipart has text before its first delimiter
    has_preamble: bool = False
    #: what is wrong with the structure; what is wrong within header fields is not looked at
    defects: list[str] = field(default_factory=list)

    @property
    def maintype(self) -> str:
        return self.content_type.value.partition("/")[0]

    def walk(self) -> Iterator[Part]:
        """This part and all below, depth first."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.children)


class _State(enum.Enum):
    HEADERS = enum.auto()
    CONTENT = enum.auto()
    #: text around the parts of a container, which means nothing
    AROUND = enum.auto()


@dataclass(slots=True)
class _Open:
    """A part whose end has not been seen, and the boundary that separates its children until it has been closed."""

    part: Part
    boundary: bytes | None = None


class Splitter:
    """Takes a message in pieces; `root` has all its parts after `finish`.

    A subclass that wants contents overrides `content`. A bound that is exceeded ends the splitting: what follows counts as
    content of the last part, and `exceeded` says which bound it was.
    """

    #: the text of a message that is encoded is taken for the message itself, as Python's email package does
    opens_encoded_messages: ClassVar[bool] = False

    def __init__(self, *, max_parts: int = MAX_PARTS, max_depth: int = MAX_DEPTH) -> None:
        self.root = Part(0, 0)
        self.exceeded: str | None = None
        self._max_depth = max_depth
        self._parts_left = max_parts
        self._fields_left = MAX_FIELDS
        self._state = _State.HEADERS
        self._open = [_Open(self.root)]
        #: places in `_open` by boundary; the inner one counts where two have the same
        self._boundaries: dict[bytes, int] = {}
        #: the header block of the innermost open part, as far as it has arrived
        self._head = bytearray()
        #: the last line as long as its end has not arrived
        self._rest = b""
        self._offset = 0
        self._mid_line = False
        self._before = b""

    def content(self, part: Part, data: bytes) -> None:
        """More content of a part without children. The last line end may belong to the delimiter that follows."""

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        data = self._rest + data if self._rest else data
        # A CR at the very end may be half a line end.
        limit = len(data) - 1 if data.endswith(b"\r") else len(data)
        start = max(0, limit - MAX_DELIMITER)
        cut = max(data.rfind(b"\n", start, limit), data.rfind(b"\r", start, limit)) + 1
        long_line = cut == 0 and start > 0
        cut = limit if long_line else cut
        self._rest = data[cut:]
        self._take(data[:cut] if self._rest else data)
        self._mid_line = long_line or (self._mid_line and cut == 0)

    def finish(self) -> Part:
        """That was all. The root."""
        rest, self._rest = self._rest, b""
        self._take(rest)
        self._close(0, self._offset, self._offset)
        return self.root

    def _take(self, block: bytes) -> None:
        """Whole lines, or a piece of one that is too long for a delimiter."""
        begin = 0
        for at in _lines_with_dashes(block, self._mid_line) if self._boundaries or self._head_is_open else ():
            self._text(block, begin, at)
            begin = at
            end = _line_end(block, at)
            if self._head and not self._in_status and self._is_text(block[at:end]):
                self._end_headers(self._offset + at, "a line is no header")
            if end - at <= MAX_DELIMITER and self._delimiter(block, at, end):
                begin = _skip_line_end(block, end)
        self._text(block, begin, len(block))
        self._offset += len(block)
        self._before = block[-2:] if len(block) > 1 else (self._before + block)[-2:]

    @property
    def _head_is_open(self) -> bool:
        return self._state is _State.HEADERS

    def _text(self, block: bytes, begin: int, end: int) -> None:
        while begin < end and self._head_is_open:
            begin = self._header_text(block, begin, end)
        if begin < end and self._state is _State.CONTENT:
            self.content(self._open[-1].part, block[begin:end])
        elif begin < end and self._state is _State.AROUND:
            part = self._open[-1].part
            part.has_preamble = part.has_preamble or (not part.children and not block[begin:end].isspace())

    def _header_text(self, block: bytes, begin: int, end: int) -> int:
        """Take header lines; the index of the first byte behind them."""
        known = len(self._head)
        self._head += block[begin:end]
        behind = _skip_line_end(self._head, 0) or end_of_headers(self._head, max(0, known - 3))
        if behind < 0:
            if len(self._head) <= MAX_HEADER_BYTES:
                return end
            self._exceed(f"header fields of more than {MAX_HEADER_BYTES} octets")
            behind = len(self._head)
        surplus = len(self._head) - behind
        del self._head[behind:]
        self._end_headers(self._offset + end - surplus)
        return end - surplus

    def _is_text(self, line: bytes) -> bool:
        """Whether a line where header fields are is neither one nor a delimiter around them: the body has begun."""
        name = line[2:].rstrip(b" \t")
        is_delimiter = name in self._boundaries or name.removesuffix(b"--") in self._boundaries
        return not is_delimiter and not _FIELD_NAME.match(line)

    def _end_headers(self, behind: int, defect: str | None = None) -> None:
        """The header block of the innermost part is complete and ends before offset `behind`."""
        part = self._open[-1].part
        head, self._head = bytes(self._head), bytearray()
        try:
            part.headers, stop = parse_headers(head)
        except InvalidMessage as error:
            part.headers, stop = Headers([]), len(head)
            self._exceed(str(error))
        if stop == len(head):
            part.headers.defect = defect or part.headers.defect
        stop = _skip_line_end(head, stop)
        part.start = behind - (len(head) - stop)
        self._fields_left -= len(part.headers.fields)
        if self._fields_left < 0:
            self._exceed(f"more than {MAX_FIELDS} header fields")
        if part.headers.defect is not None:
            part.defects.append(part.headers.defect)
        _read_type(part, self._parent)
        if self._in_status:
            part.start = behind
            self._state = _State.AROUND
            self._close(len(self._open) - 1, behind, behind)
            self._open_child(behind)
            return
        self._state = _State.CONTENT
        self._enter(part)
        if stop < len(head):
            # The body began without a blank line before it.
            offset, self._offset = self._offset, behind - len(head)
            self._text(head, stop, len(head))
            self._offset = offset

    @property
    def _in_status(self) -> bool:
        return self._parent is not None and self._parent.content_type.value == _STATUS

    @property
    def _parent(self) -> Part | None:
        return self._open[-2].part if len(self._open) > 1 else None

    def _enter(self, part: Part) -> None:
        """What kind of content is to come."""
        if part.maintype not in ("multipart", "message"):
            return
        if part.depth >= self._max_depth:
            part.defects.append("nested too deeply")
        elif part.maintype == "message" and (self.opens_encoded_messages or part.encoding in _TRANSPARENT):
            self._open_child(part.start)
        else:
            if part.encoding not in _TRANSPARENT:
                part.defects.append("a container must not be encoded")
            self._enter_multipart(part)

    def _enter_multipart(self, part: Part) -> None:
        boundary = part.content_type.params.get("boundary", "").rstrip().encode()
        if part.maintype != "multipart":
            return
        if not boundary:
            part.defects.append("a multipart without boundary")
            return
        self._open[-1].boundary = boundary
        self._boundaries[boundary] = len(self._open) - 1
        self._state = _State.AROUND

    def _open_child(self, start: int) -> None:
        container = self._open[-1].part
        if self._parts_left <= 0:
            self._exceed("more parts than can be")
            # A message that has no room to be opened is content like any other.
            if container.maintype == "message":
                self._state = _State.AROUND if container.children else _State.CONTENT
                return
        self._parts_left -= 1
        child = Part(container.depth + 1, start)
        container.children.append(child)
        self._open.append(_Open(child))
        self._state = _State.HEADERS

    def _delimiter(self, block: bytes, at: int, end: int) -> bool:
        """Whether the line from `at` to `end` is a delimiter of an open multipart; acts on it."""
        name = block[at + 2 : end].rstrip(b" \t")
        place = self._boundaries.get(name)
        closing = place is None and name.endswith(b"--")
        if closing:
            place = self._boundaries.get(name[:-2])
        if place is None:
            return False
        if not closing and self._parts_left <= 0 and self._state is not _State.AROUND:
            self._exceed("more parts than can be")  # the rest belongs to the part that is open
            return False
        line = self._offset + at
        self._close(place + 1, line, line - _line_end_length((self._before + block[max(0, at - 2) : at])[-2:]))
        if closing:
            self._open[place].boundary = None
            self._state = _State.AROUND
            self._index_boundaries()
        else:
            self._open_child(self._offset + _skip_line_end(block, end))
        return True

    def _close(self, place: int, line: int, end: int) -> None:
        """End the open parts from `place` on: the line at offset `line` is not theirs, their content stops at `end`."""
        if self._head_is_open and len(self._open) > place:
            if self._head or not self._drop_empty():
                self._end_headers(line)
            if self._head_is_open:
                self._drop_empty()
        closed = self._open[place:]
        del self._open[place:]
        for entry in reversed(closed):
            _finish(entry, end)
        if any(entry.boundary for entry in closed):
            self._index_boundaries()

    def _drop_empty(self) -> bool:
        """Nothing stands between two delimiters, or behind the last block of a status: no part."""
        parent = self._parent
        if parent is None or not (parent.maintype == "multipart" or self._in_status):
            return False
        self._open.pop()
        parent.children.pop()
        self._state = _State.AROUND
        return True

    def _index_boundaries(self) -> None:
        self._boundaries = {entry.boundary: i for i, entry in enumerate(self._open) if entry.boundary}

    def _exceed(self, bound: str) -> None:
        self.exceeded = self.exceeded or bound
        self._parts_left = 0
        self._boundaries = {}
        for entry in self._open:
            entry.boundary = None


def _read_type(part: Part, parent: Part | None) -> None:
    headers = part.headers
    text = headers.get("content-type")
    if text is not None:
        try:
            part.content_type = parse_content_type(text)
        except InvalidMessage as error:
            part.defects.append(str(error))
    elif parent is not None and parent.content_type.value == "multipart/digest":
        part.content_type = Parameterized("message/rfc822")
    part.encoding = _encoding(headers.get("content-transfer-encoding") or "7bit")


def _encoding(text: str) -> str:
    """A token, which some programs quote or comment, or give parameters (RFC 2045 §6.1)."""
    return lexical.strip_comments(text)[0].partition(";")[0].strip("\"' \t").lower()


def _finish(entry: _Open, end: int) -> None:
    part = entry.part
    part.end = max(part.start, end)
    if part.maintype == "multipart" and "boundary" in part.content_type.params:
        if not part.children:
            part.defects.append("a multipart without parts")
        elif entry.boundary is not None:
            part.defects.append("a multipart without closing delimiter")


def _lines_with_dashes(block: bytes, mid_line: bool) -> Iterator[int]:
    """Where lines begin that may be delimiters."""
    if block.startswith(b"--") and not mid_line:
        yield 0
    if b"\r--" in block:
        for found in _DASHES_AFTER_CR.finditer(block):
            yield found.end()
        return
    at = block.find(b"\n--")
    while at >= 0:
        yield at + 1
        at = block.find(b"\n--", at + 1)


def _line_end(block: bytes, at: int) -> int:
    found = _LINE.match(block, at)
    return found.end() if found else at


def _skip_line_end(block: bytes | bytearray, at: int) -> int:
    """The index behind the line end at `at`, if there is one."""
    if block[at : at + 2] == b"\r\n":
        return at + 2
    return at + 1 if block[at : at + 1] in (b"\r", b"\n") else at


def _line_end_length(before: bytes) -> int:
    """How many of the two bytes before a line are a line end."""
    return 2 if before == b"\r\n" else int(before.endswith((b"\r", b"\n")))
