"""Parts of a program, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

logger = logging.getLogger("koukan")

Part = TypeVar("Part")


class Stopping(asyncio.Event):
    """Set when the program is to end; `failed` when that is nobody's wish, so that its exit code says so."""

    failed = False

    def fail(self) -> None:
        self.failed = True
        self.set()


class Lifecycle:
    """What has been started and how it is stopped."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._stops: list[Callable[[], Awaitable[None]]] = []

    @asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """When the block fails, what it had started is stopped again."""
        try:
            yield
        except BaseException:
            await self.stop()
            raise

    def add(self, part: Part, stop: Callable[[Part], Awaitable[None]]) -> Part:
        """Remember how to stop a part."""
        self._stops.append(lambda: stop(part))
        return part

    def run(self, loop: Coroutine[None, None, None]) -> None:
        """Run a loop for as long as the program does. One that fails ends the program: better a restart than half of it."""
        task = asyncio.get_running_loop().create_task(loop)
        task.add_done_callback(self._ended)
        self._stops.append(lambda: _cancelled(task))

    async def stop(self) -> None:
        while self._stops:
            await self._stops.pop()()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("a background loop failed, stopping", exc_info=task.exception())
            self._stopping.fail()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
