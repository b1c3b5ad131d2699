"""A body that grows: in memory while it is small, in an unlinked temporary file above that."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import AsyncIterator
from typing import IO

from koukan.blob.bodies import CHUNK_SIZE
from koukan.errors import BodyAborted
from koukan.model import Body

#: bytes kept in memory before the file is opened; most mail is smaller than this
MEMORY_LIMIT = 64 * 1024


class SpooledBody(Body):
    """Written once from the front, read by any number of readers while it grows.

    Writing goes to the page cache and is not synced: what must survive a crash goes to the database.
    """

    def __init__(self, directory: str | None = None, memory_limit: int = MEMORY_LIMIT) -> None:
        self._directory = directory
        self._memory_limit = memory_limit
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._done = False
        self._error: BodyAborted | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def size(self) -> int:
        """Bytes that have arrived so far."""
        return self._size

    @property
    def length(self) -> int | None:
        return self._size if self._done else None

    @property
    def complete(self) -> bool:
        return self._done

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Raises OSError when the disk is full."""
        if self._file is None:
            if self._size + len(data) <= self._memory_limit:
                self._memory += data
            else:
                self._spill(data)
        else:
            _write(self._file, data, self._size)
        self._size += len(data)
        self._wake()

    def finish(self) -> None:
        """All of it is here."""
        self._done = True
        self._wake()

    def abort(self, reason: str) -> None:
        """The rest will never come: readers get BodyAborted."""
        if not self._done:
            self._error = BodyAborted(reason)
            self._wake()

    async def wait_complete(self) -> None:
        while not self._done:
            await self._grown()

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        offset = start
        while True:
            if offset < self._size:
                chunk = self._read(offset, min(CHUNK_SIZE, self._size - offset))
                offset += len(chunk)
                yield chunk
            elif self._done:
                return
            else:
                await self._grown()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._memory = bytearray()

    def _spill(self, data: bytes) -> None:
        # Unbuffered, so that what one reader sees is what has been written, and the process holds no second copy.
        file = tempfile.TemporaryFile(dir=self._directory, buffering=0)
        try:
            _write(file, self._memory, 0)
            _write(file, data, self._size)
        except OSError:
            file.close()
            raise
        self._file = file
        # Bodies are shared by whoever still reads them; the last one to let go frees the file.
        weakref.finalize(self, file.close)
        self._memory = bytearray()

    def _read(self, offset: int, size: int) -> bytes:
        if self._file is None:
            return bytes(self._memory[offset : offset + size])
        return os.pread(self._file.fileno(), size, offset)

    async def _grown(self) -> None:
        if self._error is not None:
            raise self._error
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _write(file: IO[bytes], data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written
