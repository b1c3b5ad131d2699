"""The admin listener: /metrics for Prometheus, /healthz and /readyz."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from koukan import metrics
from koukan.listener import HttpListener
from koukan.model import HostPort


class AdminServer:
    """Listens where operators look, apart from where clients come in."""

    def __init__(self, not_ready: Callable[[], Awaitable[str | None]]) -> None:
        self._not_ready = not_ready
        self._listener = HttpListener("admin_listener")

    async def start(self, address: HostPort) -> None:
        """Listen. Raises StartupError when the address is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        await self._listener.start(app, address)

    async def stop(self) -> None:
        await self._listener.stop()

    @property
    def address(self) -> HostPort:
        return self._listener.address

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=metrics.exposition(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        reason = await self._not_ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")
