"""Connections that are used again: the next message to the same server needs no greeting and no handshake."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field

from koukan import clock
from koukan.config.gateway import SmtpHostConfig
from koukan.model import HostPort
from koukan.net.tls import client_context
from koukan.smtp.connection import SmtpConnection
from koukan.smtp.handshake import open_connection

#: messages over one connection; servers count too, and a fresh connection now and then spreads load behind their addresses
MESSAGE_LIMIT = 100
#: seconds a connection waits for its next message; Postfix keeps its cached ones 2 s, servers time out after 300 s
IDLE_LIMIT = 5.0
#: idle connections to one server
IDLE_PER_SERVER = 50

Key = tuple[HostPort, str, str, str | None, str]


@dataclass(slots=True)
class _Idle:
    connection: SmtpConnection
    since: float = field(default_factory=clock.now)


class ConnectionPool:
    """Idle connections by server, TLS policy, our name and protocol."""

    def __init__(self) -> None:
        self._idle: dict[Key, deque[_Idle]] = {}
        self._contexts: dict[tuple[str, str | None], ssl.SSLContext | None] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def take(self, address: HostPort, host: SmtpHostConfig) -> tuple[SmtpConnection, bool]:
        """A connection that is ready for MAIL, and whether it has been used before. Raises Refused, ConnectionBroken."""
        idle = self._idle.get(_key(address, host))
        while idle:
            candidate = idle.pop()
            if candidate.connection.usable and clock.now() - candidate.since < IDLE_LIMIT:
                return candidate.connection, True
            candidate.connection.close()
        return await self.open(address, host), False

    async def open(self, address: HostPort, host: SmtpHostConfig) -> SmtpConnection:
        """A new connection. Raises Refused, ConnectionBroken."""
        return await open_connection(address, host, self._tls(host))

    def give_back(self, address: HostPort, host: SmtpHostConfig, connection: SmtpConnection) -> None:
        """Keep a connection for the next message, unless it has served long enough."""
        idle = self._idle.setdefault(_key(address, host), deque())
        connection.messages += 1
        if connection.messages >= MESSAGE_LIMIT or len(idle) >= IDLE_PER_SERVER or not connection.usable:
            self.quit(connection)
            return
        idle.append(_Idle(connection))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._sweep)

    def quit(self, connection: SmtpConnection) -> None:
        """Say goodbye without waiting for the answer."""
        if connection.usable:
            connection.write(b"QUIT\r\n")
        connection.close()

    async def close(self) -> None:
        """Say goodbye everywhere."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for idle in self._idle.values():
            for candidate in idle:
                self.quit(candidate.connection)
        self._idle.clear()
        await asyncio.sleep(0)

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = clock.now() - IDLE_LIMIT
        for key, idle in list(self._idle.items()):
            while idle and (idle[0].since < oldest or not idle[0].connection.usable):
                self.quit(idle.popleft().connection)
            if not idle:
                del self._idle[key]
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._sweep)

    def trust(self, host: SmtpHostConfig) -> None:
        """Read the host's CA file. Raises ConfigError for one that is none: ask when the program starts."""
        self._tls(host)

    def _tls(self, host: SmtpHostConfig) -> ssl.SSLContext | None:
        if host.tls.mode == "none":
            return None
        key = (host.tls.mode, host.tls.ca_file)
        if key not in self._contexts:
            self._contexts[key] = client_context(verify=host.tls.mode == "verify", ca_file=host.tls.ca_file)
        return self._contexts[key]


def _key(address: HostPort, host: SmtpHostConfig) -> Key:
    return address, host.ehlo_host, host.tls.mode, host.tls.ca_file, host.protocol
