"""What a program does with the world around its configuration when it starts, done for `koukan check` without starting it."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Iterator

from koukan.config.filters import RestOutput
from koukan.config.gateway import GatewayConfig
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError, StartupError
from koukan.model import HostPort
from koukan.net.tls import server_context
from koukan.rest.http import HttpClients
from koukan.rest.output import read_authorization
from koukan.smtp.pool import ConnectionPool
from koukan.smtp.server import load_secrets
from koukan.storage.url import database_url


def try_router(config: RouterConfig) -> Iterator[str]:
    """Read and bind what a router would. Yields warnings. Raises ConfigError and StartupError."""
    listener = config.rest_listener
    server_context(listener.cert, listener.key)
    database_url(config.storage)
    _try_directory("global.spool_directory", config.global_.spool_directory)
    clients = HttpClients()
    for endpoint in config.rest_endpoint:
        clients.trust(True if endpoint.verify is None else endpoint.verify)
        if endpoint.authorization_file is not None:
            read_authorization(endpoint.authorization_file)
    for chain in config.endpoint:
        if isinstance(chain.sink, RestOutput):
            clients.trust(chain.sink.verify)
    yield from _try_address("rest_listener.addr", listener.addr)
    if config.admin_listener is not None:
        yield from _try_address("admin_listener.addr", config.admin_listener.addr)


def try_gateway(config: GatewayConfig) -> Iterator[str]:
    """Read and bind what a gateway would. Yields warnings. Raises ConfigError and StartupError."""
    server_context(config.rest_listener.cert, config.rest_listener.key)
    clients, pool = HttpClients(), ConnectionPool()
    for host in config.smtp_output.hosts.values():
        pool.trust(host)
    for output in config.rest_output:
        clients.trust(output.verify)
    yield from _try_address("rest_listener.addr", config.rest_listener.addr)
    if config.admin_listener is not None:
        yield from _try_address("admin_listener.addr", config.admin_listener.addr)
    for number, service in enumerate(config.smtp_listener.services):
        server_context(service.cert, service.key)
        load_secrets(service.auth_secrets)
        yield from _try_address(f"smtp_listener.services[{number}].addr", service.addr)


def _try_directory(key: str, directory: str | None) -> None:
    if directory is None:
        return
    try:
        with tempfile.TemporaryFile(dir=directory):
            return
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"{key}: no file can be made in {directory}: {reason}; make it, writable for this user"
        ) from None


def _try_address(key: str, address: HostPort) -> Iterator[str]:
    """Bind it and let it go. What is taken may be taken by this very program, which runs."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StartupError(f"{key}: cannot listen on {address}: {error.strerror or error}") from None
        yield f"{key}: {address} is in use; only one program can listen there"
