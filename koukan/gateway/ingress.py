"""SMTP in: every SMTP transaction becomes a REST transaction on a router, kept alive while its client is slow."""

from __future__ import annotations

import asyncio
import logging

from koukan import clock
from koukan.model import Body, Step, StepResult, Upstream
from koukan.rest.client import RestUpstream
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, Target

logger = logging.getLogger("koukan.gateway")

#: seconds between looks at open transactions for heartbeats
_TICK = 1.0


class Ingress:
    """The open transactions of all listeners towards routers."""

    def __init__(self, clients: HttpClients) -> None:
        self._clients = clients
        self._open: set[IngressUpstream] = set()
        self._heartbeats: set[asyncio.Task[None]] = set()

    def open(self, target: Target, conversation: Conversation, refresh_interval: float) -> Upstream:
        """A fresh transaction; it is registered from its first step until it is over."""
        upstream = RestUpstream(self._clients, target, conversation)
        return IngressUpstream(upstream, self._open, refresh_interval)

    def __len__(self) -> int:
        return len(self._open)

    async def watch(self) -> None:
        """Send heartbeats for clients that are slow, for ever; a router would give their transactions up."""
        while True:
            await asyncio.sleep(_TICK)
            now = clock.now()
            for upstream in list(self._open):
                if upstream.heartbeat_due(now):
                    task = asyncio.ensure_future(upstream.heartbeat())
                    self._heartbeats.add(task)
                    task.add_done_callback(self._heartbeats.discard)


class IngressUpstream(Upstream):
    """A REST transaction that knows when it was last heard of."""

    def __init__(self, upstream: RestUpstream, registry: set[IngressUpstream], refresh_interval: float) -> None:
        self._upstream = upstream
        self._registry = registry
        self._refresh_interval = refresh_interval
        self._last_sent = clock.now()
        self._busy = False
        #: the message as long as its client may still be slow with it
        self._body: Body | None = None

    def heartbeat_due(self, now: float) -> bool:
        waits_for_client = not self._busy or (self._body is not None and not self._body.complete)
        return waits_for_client and now - self._last_sent > self._refresh_interval

    async def step(self, step: Step) -> StepResult:
        self._registry.add(self)
        self._busy = True
        self._body = step.body
        try:
            result = await self._upstream.step(step)
        finally:
            self._busy = False
            self._body = None
            self._last_sent = clock.now()
        if result.data is not None:
            self._registry.discard(self)
        return result

    async def heartbeat(self) -> None:
        self._last_sent = clock.now()
        await self._upstream.heartbeat()

    async def cancel(self) -> None:
        self._registry.discard(self)
        await self._upstream.cancel()
