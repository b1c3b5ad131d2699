"""Upkeep: what a process does for the queue beside its heartbeat, which does not notice when this is late or fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from koukan.errors import StoreError

logger = logging.getLogger("koukan.storage")


class Upkeep:
    """Does all of `acts` once every `interval` seconds."""

    def __init__(self, interval: float, acts: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._interval = interval
        self._acts = acts
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            for act in self._acts:
                await _try(act)


async def _try(act: Callable[[], Awaitable[None]]) -> None:
    try:
        await act()
    except StoreError as error:
        logger.warning("upkeep of the queue has to wait: %s", error)
    except Exception:
        # The others go on, and so does this one the next time.
        logger.exception("internal error in the upkeep of the queue")
