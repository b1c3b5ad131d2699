"""The admin listener: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from koukan.listener import HttpListener
from koukan.model import HostPort

_METRICS_TYPE = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}

#: why not; None when all is well
Check = Callable[[], Awaitable[str | None]]


async def _alive() -> str | None:
    """A process that answers is alive."""
    return None


class AdminServer:
    """Listens where operators look, apart from where clients come in; `what` names the listener in errors."""

    def __init__(
        self,
        exposition: Callable[[], bytes],
        not_ready: Check,
        *,
        unhealthy: Check = _alive,
        what: str = "admin_listener",
    ) -> None:
        self._exposition = exposition
        self._checks = {"/healthz": unhealthy, "/readyz": not_ready}
        self._listener = HttpListener(what)

    async def start(self, address: HostPort) -> None:
        """Listen. Raises StartupError when the address is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        for path in self._checks:
            app.router.add_get(path, self._check)
        await self._listener.start(app, address)

    async def stop(self) -> None:
        await self._listener.stop()

    @property
    def address(self) -> HostPort:
        return self._listener.address

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._exposition(), headers=_METRICS_TYPE)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        reason = await self._checks[request.path]()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")
