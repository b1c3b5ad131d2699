"""What the kubelet and Prometheus ask: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from koukan.listener import HttpListener
from koukan.model import HostPort
from koukan_operator import metrics

_METRICS_TYPE = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}


class ProbeServer:
    """Answers probes: each is a function that gives the reason why not, or None."""

    def __init__(self, unhealthy: Callable[[], str | None], not_ready: Callable[[], str | None]) -> None:
        self._unhealthy = unhealthy
        self._not_ready = not_ready
        self._listener = HttpListener("--listen")

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
        return web.Response(body=metrics.exposition(), headers=_METRICS_TYPE)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return _answer(self._unhealthy())

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        return _answer(self._not_ready())


def _answer(reason: str | None) -> web.StreamResponse:
    return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")
