"""How valid a message is, on the scale that policies know: four levels, by the defects of Python's email package.

A message is read once, in pieces, and never held: 20 MB cost no more memory than 20 KB.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from koukan.message.address import Address
from koukan.message.headers import MAX_HEADER_BYTES, Field, Headers, header_from
from koukan.message.mime import Part, Splitter
from koukan.message.syntax import SyntaxCheck
from koukan.model import Body

#: multiparts within each other
MAX_NESTING = 20

_BLANK_LINE = b"\r\n\r\n"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_LINE_ENDS = b"\r\n"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
#: octets of a From field that may be one mailbox: a line of the longest kind and its continuations
_LONGEST_SENDER = 16 * 1024
_ONCE = ("from", "date", "message-id")


class Level(IntEnum):
    """What a message keeps to. Each level includes those below."""

    #: nothing: it has no header block
    NONE = 0
    #: a header block
    BASIC = 1
    #: header fields in a proper encoding, with one From, Date and Message-ID each
    MEDIUM = 2
    #: every header field of every part, and the structure of the parts
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """A level, and why it is no higher. `sender` is the address of From, when there is exactly one."""

    level: Level
    reason: str | None = None
    received_count: int | None = None
    sender: Address | None = None


class _Scan(Splitter):
    """Finds the parts, and whether what claims to be base64 is (RFC 2045 §6.8)."""

    opens_encoded_messages = True

    def __init__(self) -> None:
        super().__init__()
        self._part: Part | None = None
        self._digits = 0
        self._padding = 0
        self._broken = False

    def content(self, part: Part, data: bytes) -> None:
        if part.encoding != "base64" or self._broken:
            return
        if part is not self._part:
            self.broken_base64()
            self._part, self._digits, self._padding = part, 0, 0
        text = data.translate(None, _LINE_ENDS)
        padding = text.translate(None, _BASE64)
        if self._padding and len(padding) < len(text):
            self._broken = True  # digits behind the padding
        self._broken |= padding.strip(b"=") != b"" or not text.endswith(padding)
        self._digits += len(text) - len(padding)
        self._padding += len(padding)

    def broken_base64(self) -> bool:
        """Whether any part so far is broken; the last one counts as complete."""
        self._broken |= self._padding > 2 or (self._digits + self._padding) % 4 != 0
        return self._broken


async def validate(body: Body, *, smtputf8: bool = False) -> Verdict:
    """Judge a message. `smtputf8`: header fields may hold UTF-8 (RFC 6532)."""
    chunks = body.chunks()
    data = b""
    end = -1
    async for chunk in chunks:
        searched = max(0, len(data) - 3)
        data = data + chunk if data else chunk
        end = data.find(_BLANK_LINE, searched, MAX_HEADER_BYTES)
        if end >= 0 or len(data) >= MAX_HEADER_BYTES:
            break
    if end < 0:
        return Verdict(Level.NONE, f"couldn't find end of rfc822 headers in {MAX_HEADER_BYTES}")
    scan = _Scan()
    scan.feed(data)
    headers = scan.root.headers
    fault = _header_block_fault(headers, scan)
    if fault is not None:
        return Verdict(Level.NONE, fault)
    count, sender = headers.count("received"), _sender(headers)
    syntax = SyntaxCheck(smtputf8=smtputf8)
    fault = _encoding_fault(data[:end], smtputf8) or _sender_fault(headers, syntax)
    if fault is not None:
        return Verdict(Level.BASIC, fault, count, sender)
    async for chunk in chunks:
        scan.feed(chunk)
        await asyncio.sleep(0)  # a body that is here already would not let others run
    if _tree_fault(scan, syntax):
        return Verdict(Level.MEDIUM, "mime tree", count, sender)
    return Verdict(Level.HIGH, None, count, sender)


def _header_block_fault(headers: Headers, scan: _Scan) -> str | None:
    if scan.exceeded is not None and not headers.fields:
        return scan.exceeded
    return "MissingHeaderBodySeparatorDefect" if headers.defect == "a line is no header" else None


def _encoding_fault(block: bytes, smtputf8: bool) -> str | None:
    try:
        block.decode("utf-8" if smtputf8 else "ascii")
    except UnicodeDecodeError:
        return "invalid text encoding in headers"
    return "invalid text encoding in headers" if _CONTROL.search(block) else None


def _sender_fault(headers: Headers, syntax: SyntaxCheck) -> str | None:
    """The fields that a message must have once (RFC 5322 §3.6), in the order in which policies know them."""
    for name in _ONCE:
        fields = headers.all(name)
        if len(fields) != 1:
            return f"missing/multiple {name}"
        defect = syntax.defect(fields[0]) if fields[0].text else "empty"
        if defect is not None:
            return f"invalid {name}({defect})"
    return None


def _sender(headers: Headers) -> Address | None:
    fields = headers.all("from")
    if len(fields) != 1 or len(fields[0].value) > _LONGEST_SENDER:
        return None
    addresses = header_from(headers)
    return addresses[0] if len(addresses) == 1 else None


def _tree_fault(scan: _Scan, syntax: SyntaxCheck) -> bool:
    root = scan.finish()
    if scan.exceeded is not None or scan.broken_base64():
        return True
    if _nests_too_deep(root) or any(part.defects for part in root.walk()):
        return True
    return any(not part.content_type.valid or any(map(syntax.defect, _unjudged(part))) for part in root.walk())


def _unjudged(part: Part) -> Iterator[Field]:
    """The header fields of a part that nothing has looked at yet."""
    judged = {id(field) for name in _ONCE for field in part.headers.all(name)} if part.depth == 0 else set()
    judged.update(id(field) for field in part.headers.all("content-type")[:1])
    return (field for field in part.headers if id(field) not in judged)


def _nests_too_deep(root: Part) -> bool:
    waiting = [(root, 0)]
    while waiting:
        part, around = waiting.pop()
        multiparts = around + (part.maintype == "multipart")
        if multiparts > MAX_NESTING:
            return True
        waiting += ((child, multiparts) for child in part.children)
    return False
