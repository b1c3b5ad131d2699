"""Content on its way into a message: base64 in pieces, or as it is with the line ends of mail (RFC 2045 §6)."""

from __future__ import annotations

import asyncio
import binascii
import codecs
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from koukan.model import Body

#: characters of a base64 line and the octets that they stand for (RFC 2045 §6.8)
_LINE = 76
_OCTETS = 57
_LINE_WITH_END = _LINE + 2

#: bytes that are made or looked at before other tasks get their turn: 4 ms of work at most
TURN = 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\r|\n")


async def in_turns(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks; contents that are all here would otherwise not let others run."""
    taken = 0
    async for chunk in chunks:
        yield chunk
        taken += len(chunk)
        if taken >= TURN:
            taken = 0
            await asyncio.sleep(0)


def base64_length(octets: int) -> int:
    """Bytes that `octets` take as base64, line ends included."""
    characters = (octets + 2) // 3 * 4
    return characters + (characters + _LINE - 1) // _LINE * 2


async def encode_base64(content: Body, start: int = 0) -> AsyncIterator[bytes]:
    """The lines of `content` in base64, from offset `start` of what they are together."""
    line, skip = divmod(start, _LINE_WITH_END)
    rest = b""
    async for chunk in content.chunks(line * _OCTETS):
        data = rest + chunk if rest else chunk
        whole = len(data) // _OCTETS * _OCTETS
        rest = data[whole:]
        if whole:
            yield _encode_lines(data[:whole])[skip:]
            skip = 0
    if rest:
        yield _encode_lines(rest)[skip:]


def _encode_lines(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[i : i + _LINE] for i in range(0, len(encoded), _LINE)]
    return b"\r\n".join(lines) + b"\r\n"


async def with_line_ends(content: Body) -> AsyncIterator[bytes]:
    """`content` with CRLF for every line end; what has them already passes unchanged."""
    held = b""
    async for chunk in content.chunks():
        data = held + chunk if held else chunk
        # A CR at the end may be half of a line end.
        held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)]
        if data:
            yield _LINE_END.sub(b"\r\n", data)
    if held:
        yield b"\r\n"


@dataclass(frozen=True, slots=True)
class Measure:
    """What `with_line_ends` makes of a content: its length, and whether it is all ASCII."""

    length: int
    ascii: bool


async def measure(content: Body) -> Measure:
    """Read a content once to know what it takes as it is."""
    length, is_ascii = 0, True
    async for chunk in in_turns(with_line_ends(content)):
        length += len(chunk)
        is_ascii = is_ascii and chunk.isascii()
    return Measure(length, is_ascii)


async def is_utf8(content: Body) -> bool:
    """Whether all of a content is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for chunk in in_turns(content.chunks()):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
