"""A TCP relay that cuts its connections when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Self, cast

from koukan.model import HostPort


class CuttingRelay:
    """Passes bytes on to `target`. `budgets` gives each new connection a number of bytes, both ways, after which it is cut."""

    def __init__(self, target: HostPort) -> None:
        self.target = target
        self.address = HostPort("", 0)
        self.budgets: Iterator[int] | None = None
        #: connections that were cut because their budget was used up
        self.cuts = 0
        self.ends: set[_End] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        self.address = HostPort(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        while self.connecting:
            await asyncio.wait(self.connecting)
        self.cut()
        await asyncio.sleep(0)

    @property
    def open(self) -> int:
        """Connections that are not cut."""
        return len(self.ends) + len(self.connecting)

    def cut(self) -> None:
        """Cut every connection there is, now."""
        for end in self.ends:
            end.transport.abort()

    def _accept(self) -> asyncio.Protocol:
        return _End(self, [next(self.budgets) if self.budgets is not None else -1])


class _End(asyncio.Protocol):
    """One of the two ends of a connection through the relay; they share the budget `left`, which is negative for none."""

    transport: asyncio.Transport

    def __init__(self, relay: CuttingRelay, left: list[int], other: _End | None = None) -> None:
        self._relay = relay
        self._left = left
        self._other = other
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._relay.ends.add(self)
        if self._other is None:
            task = asyncio.ensure_future(self._connect())
            self._relay.connecting.add(task)
            task.add_done_callback(self._relay.connecting.discard)

    async def _connect(self) -> None:
        far = _End(self._relay, self._left, self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, *self._relay.target)
        except OSError:
            self.transport.abort()
            return
        self._other = far
        if self.transport.is_closing():
            far.transport.abort()
        else:
            far.transport.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self._left[0] > 0:
            data = data[: self._left[0]]
            self._left[0] -= len(data)
        if self._other is None:
            self._early += data
        else:
            self._other.transport.write(data)
        if self._left[0] == 0:
            self._relay.cuts += 1
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.ends.discard(self)
        if self._other is not None:
            self._other.transport.close()
