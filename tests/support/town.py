"""Routers and a gateway as processes of their own, around one PostgreSQL database, with a mail sink of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from koukan.dev.processes import Processes, Program
from koukan.dev.sink import MailSink
from koukan.model import HostPort
from tests.support.house import LOOPBACK, House, eventually, free_port

#: seconds in which a program starts on a busy machine
START = 60.0


class Town:
    """`routers` of them, each with an address of its own. What ends is started again, as Kubernetes would."""

    def __init__(
        self,
        directory: Path,
        database_url: str,
        change: Callable[[dict[str, Any]], None] = lambda document: None,
        *,
        routers: Sequence[str] = ("router",),
    ) -> None:
        self.sink = MailSink()
        #: every line that the programs have logged, with their names
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.processes = Processes(self._heard)
        self._names = routers
        self._ports = {name: free_port() for name in ("mx", "msa")}
        self._houses = [self._house(directory / name, database_url, change) for name in routers]
        for house in self._houses[1:]:
            house.gateway_port, house.sink_port = self._houses[0].gateway_port, self._houses[0].sink_port

    def _house(self, directory: Path, database_url: str, change: Callable[[dict[str, Any]], None]) -> House:
        directory.mkdir()
        return House(directory, database_url, change, self._with_ports)

    def _with_ports(self, document: dict[str, Any]) -> None:
        for service, port in zip(document["smtp_listener"]["services"], self._ports.values(), strict=True):
            service["addr"] = [LOOPBACK, port]

    @property
    def msa(self) -> HostPort:
        return HostPort(LOOPBACK, self._ports["msa"])

    @property
    def rest(self) -> str:
        """The first router's base URL."""
        return self._houses[0].rest

    async def __aenter__(self) -> Self:
        await self.start_sink()
        for name, house in zip(self._names, self._houses, strict=True):
            self.processes.start(Program(name, ["router", str(house.router_file())], {}))
        self.processes.start(Program("gateway", ["gateway", str(self._houses[0]._gateway_file())], {}))
        for name in (*self._names, "gateway"):
            await eventually(lambda name=name: self.count(name, "ready") > 0, START)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.processes.stop()
        await self.sink.stop()

    async def start_sink(self) -> None:
        await self.sink.start(HostPort(LOOPBACK, self._houses[0].sink_port))

    def count(self, name: str, message: str) -> int:
        """How often a program has logged a message that begins so."""
        return sum(program == name and said(event).startswith(message) for program, event in self.events)

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self.processes.pid(name)
        assert pid is not None
        os.kill(pid, number)

    async def is_ready_again(self, name: str, before: int) -> None:
        """Wait until a program has become ready more often than `before`."""
        await eventually(lambda: self.count(name, "ready") > before, START)

    def _heard(self, name: str, event: dict[str, Any] | None, line: str) -> None:
        self.events.append((name, event or {"message": line}))


def said(event: dict[str, Any]) -> str:
    """What a log line says."""
    return str(event.get("message") or event.get("event") or "")


async def together(work: Sequence[Any]) -> None:
    """Run coroutines until all are done; the first error ends them all."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
