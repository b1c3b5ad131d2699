"""One pass over a message: its header fields, and the hashes of its body that signatures need."""

from __future__ import annotations

from collections.abc import Callable, Collection

from koukan.auth.dkim.canonical import BodyHash
from koukan.executor import run_bounded
from koukan.message.headers import Headers, parse_headers, read_head
from koukan.model import Body

#: octets of a body from which on it is hashed off the event loop, and that go there at a time
EXECUTOR_THRESHOLD = 1024 * 1024


async def read_message(body: Body, choose: Callable[[Headers], Collection[BodyHash]]) -> Headers:
    """The header fields of a message. `choose` looks at them and says which hashes the body is fed to.

    Raises InvalidMessage for a header block that is too large.
    """
    chunks = body.chunks()
    head, rest = await read_head(chunks)
    headers, _ = parse_headers(head)
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


def _update(hashes: Collection[BodyHash], chunks: Collection[bytes]) -> None:
    for chunk in chunks:
        for body_hash in hashes:
            body_hash.update(chunk)
