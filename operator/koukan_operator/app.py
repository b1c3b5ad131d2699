"""The operator as a program: its parts, and in which order they start."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from koukan.admin import AdminServer
from koukan.model import HostPort
from koukan_operator import metrics
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.cache import Cache
from koukan_operator.cluster import ClusterError, NotFound
from koukan_operator.handlers import Watches
from koukan_operator.kinds import Key
from koukan_operator.leadership import Leadership
from koukan_operator.queue import WorkQueue
from koukan_operator.reconcile import Reconciler
from koukan_operator.resync import Resync
from koukan_operator.settings import OperatorSettings
from koukan_operator.triggers import Triggers

logger = logging.getLogger("koukan.operator")

#: resources reconciled at a time: as many as there are calls to the API server under way
WORKERS = 4
#: seconds between looks for an API server, or for the CRDs, that are not there yet
STARTUP_RETRY = 3.0
#: seconds before watches that have ended for good are opened again; doubled each time, up to the maximum
WATCH_RETRY = 1.0
MAX_WATCH_RETRY = 60.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the operator runs."""

    settings: OperatorSettings
    listen: HostPort
    identity: str
    namespaces: Sequence[str] = ()
    in_cluster: bool = True
    lease: Key | None = None


class OperatorApp:
    """Everything that runs in the operator's process."""

    def __init__(self, options: RunOptions) -> None:
        """Raises StartupError when there is no way to reach a cluster."""
        self._options = options
        self.stopping = asyncio.Event()
        self._cluster = KubernetesCluster(self._connect())
        self._queue: WorkQueue[Key] = WorkQueue(self._work)
        cache = Cache()
        self._reconciler = Reconciler(self._cluster, cache, options.settings, self._queue.add)
        triggers = Triggers(cache, self._reconciler.index, self._queue.add)
        self._resync = Resync(self._cluster, cache, triggers, self._queue.add, options.namespaces)
        self._watches = Watches(self._connect, triggers, self._resync, options.namespaces)
        self._leadership = Leadership(self._cluster, options.lease, options.identity)
        self.probes = AdminServer(metrics.exposition, self._not_ready, unhealthy=self._unhealthy, what="--listen")
        self._synced = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises StartupError."""
        self._catch_signals()
        await self.probes.start(self._options.listen)
        logger.info("probes and metrics on http://%s", self.probes.address)
        self._start("lease", self._leadership.run())
        for _ in range(WORKERS):
            self._start("worker", self._queue.run())
        self._start("resync", self._resync.run())
        try:
            await self._watch()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leadership.release()
        await self._cluster.close()
        await self.probes.stop()

    async def _watch(self) -> None:
        """Keep the watches open: list first, so that everything is known before anything is done."""
        pause = WATCH_RETRY
        while not self.stopping.is_set():
            self._catch_signals()
            if not await self._list():
                continue
            started = time.monotonic()
            try:
                await self._watches.run(self.stopping)
                return
            except Exception:
                pause = WATCH_RETRY if time.monotonic() - started > MAX_WATCH_RETRY else pause
                logger.exception("the watches have ended, they are opened again in %.0f s", pause)
            await self._sleep(pause)
            pause = min(MAX_WATCH_RETRY, pause * 2)

    async def _list(self) -> bool:
        """List what there is; False after a pause when that is not possible yet."""
        try:
            apis = await self._resync.find_kinds()
            self._reconciler.planner.settings = replace(self._options.settings, available_apis=apis)
            await self._resync.once()
        except (ClusterError, NotFound) as error:
            logger.warning("waiting for the API server: %s", error)
            await self._sleep(STARTUP_RETRY)
            return False
        self._resync.trust()
        if not self._synced:
            self._synced = True
            logger.info("serving %s", ", ".join(self._options.namespaces) or "all namespaces")
        return True

    async def _work(self, key: Key) -> float | None:
        await self._leadership.leading.wait()
        return await self._reconciler.reconcile(key)

    async def _unhealthy(self) -> str | None:
        dead = self._resync.dead_watches()
        if dead:
            return f"watches that tell nothing any more: {', '.join(dead)}"
        ended = [task.get_name() for task in self._tasks if task.done()]
        return f"ended: {', '.join(ended)}" if ended else None

    async def _not_ready(self) -> str | None:
        return None if self._synced else "the cluster has not been listed yet"

    def _connect(self) -> Any:
        return load_configuration(in_cluster=self._options.in_cluster)

    def _start(self, name: str, loop: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(loop, name=name))

    def _catch_signals(self) -> None:
        """Until the watches run, signals are ours to catch; kopf takes them over and ends when one comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
