"""A body that passes through: bounded in memory, read once while it is written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from koukan.errors import BodyAborted
from koukan.model import Body

#: bytes that may wait for the reader before the writer has to
BUFFER_LIMIT = 256 * 1024


class StreamBody(Body):
    """A first-in, first-out body with one writer and one reader, who wait for each other."""

    replayable = False

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._size = 0
        self._done = False
        self._dropped = False
        self._error: BodyAborted | None = None
        self._changed = asyncio.Event()

    @property
    def length(self) -> int | None:
        return self._size if self._done else None

    @property
    def complete(self) -> bool:
        return self._done

    async def write(self, data: bytes) -> None:
        """Add bytes; waits while the reader is behind. Raises BodyAborted after `abort`."""
        while self._waiting >= self._limit and not self._dropped:
            await self._wait()
        if self._error is not None:
            raise self._error
        self._size += len(data)
        if not self._dropped:
            self._chunks.append(data)
            self._waiting += len(data)
        self._changed.set()

    def finish(self) -> None:
        """All of it is here."""
        self._done = True
        self._changed.set()

    def abort(self, reason: str) -> None:
        if not self._done:
            self._error = BodyAborted(reason)
            self._changed.set()

    def drop(self) -> None:
        """The reader wants no more: what is still written goes nowhere."""
        self._dropped = True
        self._chunks.clear()
        self._waiting = 0
        self._changed.set()

    async def wait_complete(self) -> None:
        """Only for small bodies: whoever waits without reading waits for ever once the buffer is full."""
        while not self._done:
            await self._wait()

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        while True:
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                self._changed.set()
                if start < len(chunk):
                    yield chunk[start:] if start else chunk
                start = max(0, start - len(chunk))
            elif self._done:
                return
            else:
                await self._wait()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._changed.clear()
        await self._changed.wait()
