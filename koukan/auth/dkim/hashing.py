"""One pass over a message: its header fields, and the hashes of its body that signatures need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection

from koukan.auth.dkim.canonical import BodyHash
from koukan.errors import InvalidMessage
from koukan.executor import run_bounded
from koukan.message.headers import MAX_HEADER_BYTES, Headers, end_of_headers, parse_headers
from koukan.model import Body

#: octets of a body from which on it is hashed off the event loop, and that go there at a time
EXECUTOR_THRESHOLD = 1024 * 1024


async def read_message(body: Body, choose: Callable[[Headers], Collection[BodyHash]]) -> Headers:
    """The header fields of a message. `choose` looks at them and says which hashes the body is fed to.

    Raises InvalidMessage for a header block that is too large.
    """
    chunks = body.chunks()
    headers, rest = await _read_head(chunks)
    hashes = choose(headers)
    if not hashes:
        return headers
    waiting, size, passed = [rest], len(rest), 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= EXECUTOR_THRESHOLD:
            await run_bounded(_update, hashes, waiting)
            waiting, size, passed = [], 0, passed + size
    if passed:
        await run_bounded(_update, hashes, waiting)
    else:
        _update(hashes, waiting)
    return headers


async def _read_head(chunks: AsyncIterator[bytes]) -> tuple[Headers, bytes]:
    """The header fields, and what has been read of the body."""
    data = bytearray()
    async for chunk in chunks:
        searched = max(0, len(data) - 3)
        data += chunk
        if data[:1] in b"\r\n":
            return Headers([]), bytes(data[2 if data[:2] == b"\r\n" else 1 :])
        end = end_of_headers(data, searched)
        if end >= 0:
            return parse_headers(bytes(data[:end]))[0], bytes(data[end:])
        if len(data) > MAX_HEADER_BYTES:
            raise InvalidMessage(f"header fields of more than {MAX_HEADER_BYTES} octets")
    return parse_headers(bytes(data))[0], b""


def _update(hashes: Collection[BodyHash], chunks: Collection[bytes]) -> None:
    for chunk in chunks:
        for body_hash in hashes:
            body_hash.update(chunk)
