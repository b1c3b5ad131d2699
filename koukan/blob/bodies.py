"""The kinds of body that need no storage of their own: bytes, bytes in front of another body, and the rest of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from koukan.model import Body, CompleteBody

#: bytes handed on at a time: large enough that the cost per chunk vanishes, small enough that many bodies fit in memory
CHUNK_SIZE = 64 * 1024


class BytesBody(CompleteBody):
    """A complete body in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def length(self) -> int:
        return len(self._content)

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        if start == 0 and len(self._content) <= CHUNK_SIZE:
            if self._content:
                yield self._content
            return
        for offset in range(start, len(self._content), CHUNK_SIZE):
            yield self._content[offset : offset + CHUNK_SIZE]

    async def read(self, limit: int | None = None) -> bytes:
        return self._content if limit is None else self._content[:limit]


class ConcatBody(Body):
    """Several bodies one after the other, by reference: how headers are prepended without copying the message."""

    def __init__(self, parts: Sequence[Body]) -> None:
        self._parts = parts
        self.replayable = all(part.replayable for part in parts)

    @classmethod
    def prepend(cls, head: bytes, body: Body) -> Body:
        """`head` in front of `body`."""
        if isinstance(body, ConcatBody):
            return cls([BytesBody(head), *body._parts])
        return cls([BytesBody(head), body])

    @property
    def length(self) -> int | None:
        total = 0
        for part in self._parts:
            if part.length is None:
                return None
            total += part.length
        return total

    @property
    def complete(self) -> bool:
        return all(part.complete for part in self._parts)

    async def wait_complete(self) -> None:
        for part in self._parts:
            await part.wait_complete()

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        for part in self._parts:
            length = part.length
            if length is not None and start >= length:
                start -= length
                continue
            async for chunk in part.chunks(start):
                yield chunk
            start = 0


class TailBody(Body):
    """What follows the first `offset` bytes of a body, by reference: how headers are taken out without copying the message."""

    def __init__(self, body: Body, offset: int) -> None:
        self._body = body
        self._offset = offset
        self.replayable = body.replayable

    @property
    def length(self) -> int | None:
        return None if self._body.length is None else max(0, self._body.length - self._offset)

    @property
    def complete(self) -> bool:
        return self._body.complete

    async def wait_complete(self) -> None:
        await self._body.wait_complete()

    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        return self._body.chunks(self._offset + start)
