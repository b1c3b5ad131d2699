"""Work for the processor that would hold the event loop up: big MIME, signatures over big mail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

from koukan.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

#: threads: the work holds the interpreter lock most of the time, so more of them would only interleave
WORKERS = min(4, os.cpu_count() or 1)
#: jobs that may wait for a thread; at about 50 ms each the last one waits for some seconds, less than any SMTP timeout
BACKLOG = 64


class BoundedExecutor:
    """A thread pool that refuses work rather than queue it without end."""

    def __init__(self, workers: int, backlog: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="koukan-cpu")
        self._slots = BoundedSemaphore(workers + backlog)

    async def run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `func`, which runs in a thread. Raises Overloaded, and whatever `func` raises."""
        if not self._slots.acquire(blocking=False):
            raise Overloaded("too much work is waiting for the processor, try again later")
        job = self._pool.submit(func, *args, **kwargs)
        job.add_done_callback(lambda _: self._slots.release())
        return await asyncio.wrap_future(job)


_shared = BoundedExecutor(WORKERS, BACKLOG)


async def run_bounded(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `func` in the process's one bounded executor: for work of more than about 5 ms. Raises Overloaded."""
    return await _shared.run(func, *args, **kwargs)
