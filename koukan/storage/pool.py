"""Connections to PostgreSQL that are used again.

asyncpg has a pool; ours is a list and a counter because acquiring and releasing there costs more than a query does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from koukan.errors import StoreError


class Pool:
    """Up to `size` connections; who waits longer than `timeout` seconds for one gets StoreError."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], *, size: int, timeout: float) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        self._free = asyncio.Semaphore(size)
        self._idle: list[Any] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection that nobody else uses meanwhile. One that is closed inside the block is not used again."""
        await self._wait_turn()
        try:
            connection = self._take() or await self._connect()
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    self._idle.append(connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close what is idle. Nothing may be in use."""
        while self._idle:
            await self._idle.pop().close()

    async def _wait_turn(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
        except TimeoutError:
            raise StoreError(f"all {self._size} database connections are busy") from None

    def _take(self) -> Any:
        """The connection used last, which is the most likely one to be alive; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None
