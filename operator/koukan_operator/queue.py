"""The work queue: which resources need a look, each at most once, and never twice at the same time."""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from koukan.errors import KoukanError
from koukan_operator import metrics

logger = logging.getLogger("koukan.operator")

#: seconds between a first trigger and the work, so that what `kubectl apply -f` brings in one go is one reconciliation
DEBOUNCE = 0.2
#: seconds before work that failed is tried again; doubled for each failure in a row
RETRY = 0.5
#: the longest of these pauses: what fails for a reason outside heals within it
MAX_RETRY = 120.0

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys that are due, handed to workers. A key that is added while it is worked on comes again afterwards."""

    def __init__(self, work: Callable[[K], Awaitable[float | None]]) -> None:
        """`work` does one key; it answers after how many seconds it wants to see it again, if at all."""
        self._work = work
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being done."""
        return not self._due and not self._busy

    async def add(self, key: K, delay: float = DEBOUNCE) -> None:
        """Have `key` done in `delay` seconds; an earlier wish stands."""
        due = asyncio.get_running_loop().time() + delay
        async with self._changed:
            if due >= self._due.get(key, float("inf")):
                return
            self._due[key] = due
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, key))
            metrics.QUEUE_LENGTH.set(len(self._due))
            self._changed.notify_all()

    async def run(self) -> None:
        """One worker, for ever."""
        while True:
            key = await self._take()
            try:
                again = await self._attempt(key)
            finally:
                async with self._changed:
                    self._busy.discard(key)
                    self._changed.notify_all()
            if again is not None:
                await self.add(key, again)

    async def join(self) -> None:
        """Wait until nothing is due, now or later, and nothing is being done."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.idle)

    async def _take(self) -> K:
        loop = asyncio.get_running_loop()
        async with self._changed:
            while True:
                key, wait = self._next(loop.time())
                if key is not None:
                    del self._due[key]
                    self._busy.add(key)
                    metrics.QUEUE_LENGTH.set(len(self._due))
                    return key
                await _wait(self._changed, wait)

    def _next(self, now: float) -> tuple[K | None, float | None]:
        """A key that is due and free, or how long to wait for one; None: until something changes."""
        held: list[tuple[float, int, K]] = []
        found: K | None = None
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            due, _, key = entry
            if self._due.get(key) != due:
                continue  # a later wish, which an earlier one has replaced
            if key not in self._busy:
                found = key
                break
            held.append(entry)
        for entry in held:
            heapq.heappush(self._heap, entry)
        later = next((due for due, _, key in self._heap if key not in self._busy), None) if held else None
        if not held and self._heap:
            later = self._heap[0][0]
        return found, None if later is None else max(0.0, later - now)

    async def _attempt(self, key: K) -> float | None:
        try:
            again = await self._work(key)
        except KoukanError as error:
            return self._put_off(key, error)
        except Exception as error:  # one resource that we cannot handle must not stop the others
            logger.exception("%s: reconciliation failed", key)
            return self._put_off(key, error)
        self._failures.pop(key, None)
        return again

    def _put_off(self, key: K, error: Exception) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = retry_pause(failures)
        logger.warning("%s: %s; next try in %.1f s", key, error, pause)
        return pause


def retry_pause(failures: int) -> float:
    """Seconds until the next try after `failures` failures before this one: doubled each time, varied by a half."""
    return jittered(min(MAX_RETRY, RETRY * 2.0 ** min(failures, 16)))


def jittered(seconds: float) -> float:
    """About `seconds`: between a half and one and a half of it."""
    return seconds * (0.5 + random.random())


async def _wait(condition: asyncio.Condition, timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout):
            await condition.wait()
    except TimeoutError:
        return
