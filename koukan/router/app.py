"""The router program: everything it is made of, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from koukan.admin import AdminServer
from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config.router import RouterConfig
from koukan.net.dns import Resolver
from koukan.net.tls import server_context
from koukan.rest.http import HttpClients
from koukan.rest.server import RestServer
from koukan.router.chains import compile_chains, sink_factory
from koukan.router.dispatcher import Dispatcher
from koukan.router.notification import Notifier
from koukan.router.roles import Roles
from koukan.router.scheduler import Scheduler
from koukan.router.service import RouterService, id_maker
from koukan.router.sidechains import RouterSideChains
from koukan.router.work import Ledger
from koukan.storage.sql_store import SqlStore

logger = logging.getLogger("koukan.router")

Part = TypeVar("Part")


class RouterApp:
    """One router process."""

    def __init__(self, config: RouterConfig) -> None:
        self.config = config
        #: set when the process must end: its session is lost, or it was told to
        self.stopping = asyncio.Event()
        self._cleanups: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start everything. Raises ConfigError and StartupError; what had been started is stopped again."""
        try:
            await self._start()
        except BaseException:
            await self._clean_up()
            raise

    async def _start(self) -> None:
        config = self.config
        plugins = Plugins.load(config.modules)
        tls = server_context(config.rest_listener.cert, config.rest_listener.key)
        resolver = Resolver(config.global_.dns)
        clients = self._with(HttpClients(), HttpClients.close)
        self.store = self._with(
            await SqlStore.open(
                config.storage, session_uri=config.rest_listener.session_uri, on_fenced=self.stopping.set
            ),
            SqlStore.close,
        )
        new_id = id_maker(self.store.session_id, config.global_.rest_id_entropy)
        notifier = Notifier(config.global_, new_id)
        self.dispatcher = self._with(
            Dispatcher(self.store, Ledger(self.store, notifier), config.storage.cache_ttl), Dispatcher.stop
        )
        context = Context(config, resolver, RouterSideChains(self.store, self.dispatcher))
        chains = compile_chains(context, plugins, sink_factory(context, clients, self.dispatcher))
        self.dispatcher.bind(Roles(config, chains))
        self.service = RouterService(config, self.store, self.dispatcher, new_id)
        scheduler = Scheduler(
            self.store,
            self.dispatcher,
            gc_interval=config.storage.gc_interval,
            gc_ttl=config.storage.gc_ttl,
        )
        self._cleanups.append(self._stop_tasks)
        self._run(self.dispatcher.watch())
        self._run(scheduler.collect())
        if config.global_.dequeue:
            self._run(scheduler.run())
        if config.admin_listener is not None:
            admin = self._with(AdminServer(self.service.not_ready), AdminServer.stop)
            await admin.start(config.admin_listener.addr)
        self.rest = self._with(RestServer(self.service), RestServer.stop)
        await self.rest.start(config.rest_listener.addr, tls)
        logger.info("router listens on %s as %s", self.rest.address, self.service.session_uri)

    async def stop(self) -> None:
        """Drain: take nothing new, let what is in flight finish within `drain_timeout`, give the rest back."""
        self.service.drain()
        if not self.store.fenced:
            await self.dispatcher.finish(self.config.global_.drain_timeout)
        await self._clean_up()
        logger.info("router stopped")

    def _with(self, part: Part, stop: Callable[[Part], Awaitable[None]]) -> Part:
        """Remember how to stop a part that has started."""
        self._cleanups.append(lambda: stop(part))
        return part

    def _run(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that should run for ever has failed: better an orderly restart than half a router."""
        if not task.cancelled() and task.exception() is not None:
            logger.critical("a background loop failed, stopping", exc_info=task.exception())
            self.stopping.set()

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _clean_up(self) -> None:
        while self._cleanups:
            await self._cleanups.pop()()
