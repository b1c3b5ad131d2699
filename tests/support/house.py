"""A router and a gateway, real ones, in the test's event loop, with a mail sink behind them and a receiver beside it."""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from koukan.config.files import load_gateway, load_router
from koukan.dev.receiver import Receiver
from koukan.dev.sink import MailSink
from koukan.gateway.app import GatewayApp
from koukan.model import HostPort
from koukan.router.app import RouterApp

LOOPBACK = "127.0.0.1"

_ROUTER: dict[str, Any] = {
    "global": {"mailer_daemon_mailbox": "mailer-daemon@example.com", "drain_timeout": 5},
    "storage": {"session_refresh_interval": 1, "gc_interval": 60},
    "sender": [
        {
            "name": "ingress",
            "tag": [
                {"name": "smtp-mx", "output_chain": "ingress-exploder", "upstream_tag": "smtp-mx-upstream"},
                {"name": "smtp-mx-upstream", "output_chain": "deliver"},
            ],
        },
        {
            "name": "submission",
            "output_chain": "deliver",
            "retry": "output_chain",
            "notification": "output_chain",
            "tag": [
                {
                    "name": "smtp-msa",
                    "output_chain": "msa-exploder",
                    "upstream_tag": "smtp-msa-upstream",
                    "retry": None,
                    "notification": None,
                },
                {"name": "smtp-msa-upstream", "retry": None, "notification": None},
                {"name": "notification", "notification": None},
                {"name": "once", "retry": None, "notification": None},
            ],
        },
    ],
    "endpoint": [
        {
            "name": "ingress-exploder",
            "chain": [{"filter": "exploder", "rcpt_timeout": 1.5, "data_timeout": 1.5}],
        },
        {
            "name": "msa-exploder",
            "msa": True,
            "chain": [{"filter": "exploder", "rcpt_timeout": 1.5, "data_timeout": 1.5}],
        },
        {
            "name": "deliver",
            "output_handler": {
                "retry_params": {"min_attempt_time": 1, "max_attempt_time": 1, "max_attempts": 20, "jitter": 0},
                "notification": {"sender": "submission", "tag": "notification"},
            },
            "chain": [
                {"filter": "message_builder"},
                {"filter": "received_header", "received_hostname": "mx.example.com"},
                {
                    "filter": "router",
                    "policy": {
                        "name": "address_list",
                        "domains": ["app.example.com"],
                        "destination": {"endpoint": "receiver", "options": {"receive_parsing": {"max_inline": 1000}}},
                    },
                },
                {"filter": "router", "destination": {"endpoint": "gateway", "host_list": [{"host": "", "port": 0}]}},
                {"filter": "message_parser"},
                {"filter": "rest_output"},
            ],
        },
    ],
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


class House:
    """Everything on free ports. `change` and `change_gateway` may edit the documents before they are loaded."""

    def __init__(
        self,
        directory: Path,
        database_url: str,
        change: Callable[[dict[str, Any]], None] = lambda document: None,
        change_gateway: Callable[[dict[str, Any]], None] = lambda document: None,
    ) -> None:
        self.directory = directory
        self.sink = MailSink()
        self.receiver = Receiver()
        self.router_port, self.gateway_port = free_port(), free_port()
        self.sink_port, self.receiver_port = free_port(), free_port()
        self._database_url = database_url
        self._change = change
        self._change_gateway = change_gateway
        self._started = AsyncExitStack()
        self.router: RouterApp
        self.gateway: GatewayApp

    @property
    def mx(self) -> HostPort:
        return self.gateway.listeners[0].address

    @property
    def msa(self) -> HostPort:
        return self.gateway.listeners[1].address

    @property
    def rest(self) -> str:
        """The router's base URL."""
        return f"http://{LOOPBACK}:{self.router_port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as started:
            await self.sink.start(HostPort(LOOPBACK, self.sink_port))
            started.push_async_callback(self.sink.stop)
            await self.receiver.start(HostPort(LOOPBACK, self.receiver_port))
            started.push_async_callback(self.receiver.stop)
            await self.start_router()
            started.push_async_callback(self.stop_router)
            self.gateway = GatewayApp(load_gateway(str(self._gateway_file()), {}).config)
            await self.gateway.start()
            started.push_async_callback(self.gateway.stop)
            self._started = started.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._started.aclose()

    async def stop_router(self) -> None:
        await self.router.stop()

    async def start_router(self) -> None:
        self.router = RouterApp(load_router(str(self.router_file()), {}).config)
        await self.router.start()

    async def start_sink(self) -> None:
        """Start the sink again, where it was."""
        await self.sink.start(HostPort(LOOPBACK, self.sink_port))

    async def arrived(self, count: int, timeout: float = 20.0) -> None:
        """Wait until the sink has so many messages."""
        await eventually(lambda: len(self.sink.received) >= count, timeout)

    def router_file(self) -> Path:
        document = copy.deepcopy(_ROUTER)
        document["rest_listener"] = {"addr": [LOOPBACK, self.router_port], "session_uri": self.rest}
        document["storage"]["url"] = self._database_url
        document["rest_endpoint"] = [
            {
                "name": "gateway",
                "endpoint": f"http://{LOOPBACK}:{self.gateway_port}/senders/router/transactions",
                "sender": "router",
                "tag": "outbound",
            },
            {
                "name": "receiver",
                "endpoint": f"http://{LOOPBACK}:{self.receiver_port}/senders/koukan/transactions",
                "sender": "koukan",
                "options": {"send_filter_output": True},
            },
        ]
        host = document["endpoint"][2]["chain"][3]["destination"]["host_list"][0]
        host.update(host=LOOPBACK, port=self.sink_port)
        self._change(document)
        return self._write("router.yaml", document)

    def _gateway_file(self) -> Path:
        senders = [("mx", "ingress", "smtp-mx"), ("msa", "submission", "smtp-msa")]
        document: dict[str, Any] = {
            "global": {"drain_timeout": 5},
            "rest_listener": {
                "addr": [LOOPBACK, self.gateway_port],
                "session_uri": f"http://{LOOPBACK}:{self.gateway_port}",
                "gc_interval": 1,
            },
            "smtp_output": {"hosts": {"outbound": {"ehlo_host": "gateway.example.com", "timeout": 10}}},
            "rest_output": [
                {"name": name, "endpoint": f"{self.rest}/senders/{sender}/transactions"} for name, sender, _ in senders
            ],
            "smtp_listener": {
                "services": [
                    {"addr": [LOOPBACK, 0], "endpoint": name, "sender": sender, "tag": tag}
                    for name, sender, tag in senders
                ]
            },
        }
        self._change_gateway(document)
        return self._write("gateway.yaml", document)

    def _write(self, name: str, document: dict[str, Any]) -> Path:
        path = self.directory / name
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


def quick_end(document: dict[str, Any]) -> None:
    """What is left over when a test ends, and what is over, is not kept for long."""
    document["global"]["drain_timeout"] = 0.1
    if "storage" in document:
        document["storage"]["cache_ttl"] = 0.5


async def becomes(true: Callable[[], Awaitable[bool]], timeout: float = 20.0, *, every: float = 0.05) -> None:
    """The same for what has to be asked for."""
    deadline = time.monotonic() + timeout
    while not await true():
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        await asyncio.sleep(every)


async def eventually(true: Callable[[], bool], timeout: float = 20.0, *, every: float = 0.02) -> None:
    """Wait until something outside of our reach has become true."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        await asyncio.sleep(every)
