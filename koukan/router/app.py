"""The router program: everything it is made of, started in order and stopped in reverse."""

from __future__ import annotations

import logging
from collections.abc import Callable

from koukan import metrics
from koukan.admin import AdminServer
from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config.router import RouterConfig
from koukan.errors import StoreError
from koukan.lifecycle import Lifecycle, Stopping
from koukan.logs import event
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


class RouterApp:
    """One router process."""

    def __init__(self, config: RouterConfig) -> None:
        self.config = config
        #: set when the process must end: its session is lost, or it was told to
        self.stopping = Stopping()
        self._parts = Lifecycle(self.stopping)
        self._end_attempts: Callable[[], None] = lambda: None  # until there are any

    async def start(self) -> None:
        """Start everything. Raises ConfigError and StartupError; what had been started is stopped again."""
        async with self._parts.starting():
            await self._start()

    async def _start(self) -> None:
        config, parts = self.config, self._parts
        plugins = Plugins.load(config.modules)
        tls = server_context(config.rest_listener.cert, config.rest_listener.key)
        resolver = Resolver(config.global_.dns)
        clients = parts.add(HttpClients(), HttpClients.close)
        self.store = parts.add(
            await SqlStore.open(config.storage, session_uri=config.rest_listener.session_uri, on_fenced=self._give_up),
            SqlStore.close,
        )
        new_id = id_maker(self.store.session_id, config.global_.rest_id_entropy)
        notifier = Notifier(config.global_, new_id)
        ledger = Ledger(self.store, notifier)
        self.dispatcher = parts.add(Dispatcher(self.store, ledger, config.storage.cache_ttl), Dispatcher.stop)
        self._end_attempts = self.dispatcher.fence
        context = Context(config, resolver, RouterSideChains(self.store, self.dispatcher))
        chains = compile_chains(context, plugins, sink_factory(context, clients, self.dispatcher))
        self.dispatcher.bind(Roles(config, chains))
        self.service = RouterService(config, self.store, self.dispatcher, new_id)
        scheduler = Scheduler(
            self.store,
            ledger,
            self.dispatcher,
            gc_interval=config.storage.gc_interval,
            gc_ttl=config.storage.gc_ttl,
        )
        parts.run(self.dispatcher.watch())
        parts.run(scheduler.collect())
        if config.global_.dequeue:
            parts.run(scheduler.run())
        if config.admin_listener is not None:
            admin = parts.add(AdminServer(metrics.exposition, self.service.not_ready), AdminServer.stop)
            await admin.start(config.admin_listener.addr)
        self.rest = parts.add(RestServer(self.service, slice_size=config.rest_listener.chunk_size), RestServer.stop)
        await self.rest.start(config.rest_listener.addr, tls)
        await self._succeed()
        event(logger, logging.INFO, "ready", rest=self.rest.address, session_uri=self.service.session_uri)

    def _give_up(self) -> None:
        """Our session is lost: what is under way ends at once, not only when its turn comes in stopping."""
        self._end_attempts()
        self.stopping.fail()

    async def _succeed(self) -> None:
        try:
            await self.store.succeed()
        except StoreError as error:
            logger.warning("the work of a predecessor waits until its session times out: %s", error)

    async def stop(self) -> None:
        """Drain: take nothing new, let what is in flight finish within `drain_timeout`, give the rest back."""
        self.service.drain()
        if not self.store.fenced:
            await self.dispatcher.finish(self.config.global_.drain_timeout)
        await self._parts.stop()
        logger.info("router stopped")
