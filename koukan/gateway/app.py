"""The gateway program: SMTP listeners towards routers, a REST listener towards SMTP servers."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from koukan import metrics
from koukan.admin import AdminServer
from koukan.config.gateway import GatewayConfig, RestOutputConfig, SmtpServiceConfig
from koukan.gateway.ingress import Ingress
from koukan.gateway.service import GatewayService
from koukan.lifecycle import Lifecycle, Stopping
from koukan.logs import event
from koukan.model import HostPort, Upstream
from koukan.net.tls import server_context
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation as RestConversation
from koukan.rest.remote import Target
from koukan.rest.server import RestServer
from koukan.smtp.client import SmtpUpstream
from koukan.smtp.pool import ConnectionPool
from koukan.smtp.server import SmtpListener
from koukan.smtp.transaction import Conversation

logger = logging.getLogger("koukan.gateway")


class GatewayApp:
    """One gateway process."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.stopping = Stopping()
        self._parts = Lifecycle(self.stopping)
        self.listeners: list[SmtpListener] = []

    async def start(self) -> None:
        """Start everything. Raises ConfigError and StartupError; what had been started is stopped again."""
        async with self._parts.starting():
            await self._start()

    async def _start(self) -> None:
        config, parts = self.config, self._parts
        listener = config.rest_listener
        tls = server_context(listener.cert, listener.key)
        clients = parts.add(HttpClients(), HttpClients.close)
        self._pool = parts.add(ConnectionPool(), ConnectionPool.close)
        self.service = parts.add(
            GatewayService(
                self._open_smtp,
                session_uri=listener.session_uri,
                rest_id_entropy=listener.rest_id_entropy,
                gc_tx_ttl=listener.gc_tx_ttl,
                gc_done_ttl=listener.gc_done_ttl,
                gc_interval=listener.gc_interval,
            ),
            GatewayService.stop,
        )
        self.ingress = Ingress(clients)
        parts.run(self.service.reap())
        parts.run(self.ingress.watch())
        if config.admin_listener is not None:
            admin = parts.add(AdminServer(metrics.exposition, self.service.not_ready), AdminServer.stop)
            await admin.start(config.admin_listener.addr)
        self.rest = parts.add(RestServer(self.service, slice_size=listener.chunk_size), RestServer.stop)
        await self.rest.start(listener.addr, tls)
        # A CA file that cannot be used shows now, not with the first mail.
        for host in config.smtp_output.hosts.values():
            self._pool.trust(host)
        for output in config.rest_output:
            clients.trust(output.verify)
        outputs = {output.name: output for output in config.rest_output}
        for service in config.smtp_listener.services:
            open_upstream = partial(self._open_rest, service, outputs[service.endpoint])
            smtp = parts.add(SmtpListener(service, open_upstream), SmtpListener.stop)
            await smtp.start()
            self.listeners.append(smtp)
        smtp_addresses = ",".join(str(smtp.address) for smtp in self.listeners)
        uri = self.service.session_uri
        event(logger, logging.INFO, "ready", rest=self.rest.address, smtp=smtp_addresses or None, session_uri=uri)

    async def stop(self) -> None:
        """Drain: take nothing new, let messages in flight finish within `drain_timeout`."""
        timeout = self.config.global_.drain_timeout
        self.service.drain()
        deadline = time.monotonic() + timeout
        await asyncio.gather(*(listener.drain(timeout) for listener in self.listeners))
        await self.service.finish(max(0.0, deadline - time.monotonic()))
        await self._parts.stop()
        logger.info("gateway stopped")

    def _open_smtp(self, tag: str, remote_host: HostPort | None) -> Upstream | None:
        host = self.config.smtp_output.hosts.get(tag)
        return None if host is None else SmtpUpstream(self._pool, host, remote_host)

    def _open_rest(self, service: SmtpServiceConfig, output: RestOutputConfig, conversation: Conversation) -> Upstream:
        target = Target(
            url=output.endpoint,
            sender=service.sender,
            tag=service.tag,
            verify=output.verify,
            rcpt_timeout=service.rcpt_timeout,
            data_timeout=service.data_timeout,
            chunk_size=output.chunk_size,
        )
        about = RestConversation(conversation.remote_host, conversation.local_host, conversation.smtp_meta)
        return self.ingress.open(target, about, output.refresh_interval)
