"""The one way to listen for HTTP."""

from __future__ import annotations

import ssl

from aiohttp import web

from koukan.errors import StartupError
from koukan.model import HostPort

#: connections that the kernel keeps for us while we are busy
_BACKLOG = 1024
#: seconds that requests under way have when the listener stops: long polls end, the rest is done by then
_SHUTDOWN_TIMEOUT = 5


class HttpListener:
    """Serves an application at an address; `what` is the configuration key, or the words, that name it in errors."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._runner: web.AppRunner | None = None
        self.address = HostPort("", 0)

    async def start(
        self,
        application: web.Application,
        address: HostPort,
        *,
        tls: ssl.SSLContext | None = None,
        handler_cancellation: bool = False,
    ) -> None:
        """Listen; a handler is cancelled with its client when that is wanted. Raises StartupError."""
        runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=handler_cancellation,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, address.host, address.port, ssl_context=tls, backlog=_BACKLOG).start()
        except OSError as error:
            await runner.cleanup()
            raise StartupError(f"{self._what}: cannot listen on {address}: {error.strerror or error}") from None
        self._runner = runner
        self.address = HostPort(*runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop listening and end what hangs."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
