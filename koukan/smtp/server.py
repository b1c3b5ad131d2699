"""SMTP listeners: sockets, limits and drain; the conversation itself is in `session`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import socket
import ssl
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from koukan.config.gateway import SmtpServiceConfig
from koukan.errors import ConfigError, StartupError
from koukan.model import HostPort, Response
from koukan.net.tls import server_context
from koukan.smtp.session import SmtpSession
from koukan.smtp.transaction import OpenUpstream

logger = logging.getLogger("koukan.smtp")

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")

_TOO_MANY = Response(421, "4.7.0 too many connections, try again later")
_TOO_MANY_FROM_HERE = Response(421, "4.7.0 too many connections from your address, try again later")


class SmtpListener:
    """One listener and its sessions."""

    def __init__(self, config: SmtpServiceConfig, open_upstream: OpenUpstream) -> None:
        self.config = config
        self.open_upstream = open_upstream
        self.hostname = socket.getfqdn()
        self.address = config.addr
        self.draining = False
        self.tls: ssl.SSLContext | None = server_context(config.cert, config.key)
        self._secrets = load_secrets(config.auth_secrets)
        self._server: asyncio.Server | None = None
        self._sessions: set[SmtpSession] = set()
        self._per_address: Counter[str] = Counter()
        self._background: set[asyncio.Task[Any]] = set()

    @property
    def implicit_tls(self) -> bool:
        return self.config.smtps and self.tls is not None

    @property
    def offers_auth(self) -> bool:
        return self._secrets is not None

    async def start(self) -> None:
        """Listen. Raises StartupError when the address is taken."""
        host, port = self.config.addr
        # Under PROXY the first bytes are in clear: the session starts TLS itself after the header.
        tls = self.tls if self.implicit_tls and self.config.proxy_protocol_timeout is None else None
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: SmtpSession(self), host, port, ssl=tls, backlog=1024)
        except OSError as error:
            reason = error.strerror or error
            raise StartupError(f"smtp_listener: cannot listen on {self.config.addr}: {reason}") from None
        self.address = HostPort(*self._server.sockets[0].getsockname()[:2])

    async def drain(self, timeout: float) -> None:
        """Stop listening, let messages in flight finish for `timeout` seconds, tell everybody else to come back later."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.drain()
        pending = [session.ended for session in self._sessions]
        if pending:
            await asyncio.wait(pending, timeout=timeout)

    async def stop(self) -> None:
        """Stop at once."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.abort()
        while self._background:
            await asyncio.wait(list(self._background))

    # --- what sessions need --------------------------------------------------------------------------------------------

    def admit(self, session: SmtpSession, client: str) -> Response | None:
        """Count a connection; a response is why it cannot stay."""
        limits = self.config.limits
        if len(self._sessions) >= limits.max_connections:
            return _TOO_MANY
        if self._per_address[client] >= limits.max_connections_per_ip:
            return _TOO_MANY_FROM_HERE
        self._sessions.add(session)
        self._per_address[client] += 1
        return None

    def leave(self, session: SmtpSession, client: str) -> None:
        """Forget a connection that was admitted."""
        if session in self._sessions:
            self._sessions.discard(session)
            self._per_address[client] -= 1
            if not self._per_address[client]:
                del self._per_address[client]

    def background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what outlives a session: telling the router that its client is gone."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def authenticate(self, user: bytes, password: bytes) -> bool:
        """Whether the secrets file has this user with this password."""
        stored = (self._secrets or {}).get(user.decode("utf-8", "replace"), "")
        return hmac.compare_digest(hashlib.sha256(password).hexdigest().encode(), stored.lower().encode())


def load_secrets(path: str | None) -> dict[str, str] | None:
    """The users of a listener and the hashes of their passwords; None without a file. Raises ConfigError."""
    if path is None:
        return None
    try:
        secrets = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"auth_secrets: cannot read {path}: {error}") from None
    if not isinstance(secrets, dict):
        raise ConfigError(f"auth_secrets: {path} must be a JSON object of user: hex sha256 of the password")
    for user, secret in secrets.items():
        if not isinstance(secret, str) or not _SHA256.fullmatch(secret):
            raise ConfigError(
                f"auth_secrets: {path}: user {user!r} must have the sha256 of the password, 64 hexadecimal digits"
            )
    return secrets
