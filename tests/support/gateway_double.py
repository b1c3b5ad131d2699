"""A gateway's REST listener in front of an SMTP side that does as it is told."""

from __future__ import annotations

import asyncio

from koukan.errors import BodyAborted
from koukan.gateway.service import GatewayService
from koukan.model import HostPort, Response, Step, StepResult, Upstream
from koukan.rest.server import RestServer
from tests.support.house import LOOPBACK, free_port
from tests.support.wire import Peer


class Smtp(Upstream):
    """The SMTP side of one transaction: answers when `go` is set."""

    def __init__(self, host: HostPort | None) -> None:
        self.host = host
        self.go = asyncio.Event()
        self.go.set()
        self.answers: dict[str, Response] = {}
        self.steps: list[Step] = []
        self.content: bytes | None = None
        self.broken = False
        self.heartbeats = 0
        self.cancelled = 0

    def answer(self, name: str) -> Response:
        return self.answers.get(name, Response(250, f"{name} ok"))

    async def step(self, step: Step) -> StepResult:
        self.steps.append(step)
        result = StepResult()
        if step.body is not None:
            try:
                self.content = b"".join([chunk async for chunk in step.body.chunks()])
            except BodyAborted:
                self.broken = True
        await self.go.wait()
        if step.mail_from is not None:
            result.mail = self.answer("mail")
        result.rcpt = [self.answer(mailbox.address) for mailbox in step.rcpt_to]
        if step.body is not None:
            result.data = self.answer("data")
        return result

    async def heartbeat(self) -> None:
        self.heartbeats += 1

    async def cancel(self) -> None:
        self.cancelled += 1


class Gateway:
    """A gateway's REST listener; `smtp` holds the SMTP sides in the order of their transactions."""

    def __init__(self, idle: float = 60) -> None:
        self.smtp: list[Smtp] = []
        self.hold = False
        port = free_port()
        self.base = f"http://{LOOPBACK}:{port}"
        self.service = GatewayService(
            self._open, session_uri=self.base, gc_tx_ttl=idle, gc_done_ttl=idle, gc_interval=0.05
        )
        self.server = RestServer(self.service)
        self.peer = Peer(self.base)
        self._address = HostPort(LOOPBACK, port)

    async def start(self) -> None:
        await self.server.start(self._address)
        self._reaper = asyncio.ensure_future(self.service.reap())

    async def stop(self) -> None:
        self._reaper.cancel()
        await self.server.stop()
        await self.service.stop()

    def _open(self, tag: str, host: HostPort | None) -> Upstream | None:
        if tag != "out":
            return None
        self.smtp.append(Smtp(host))
        if self.hold:
            self.smtp[-1].go.clear()
        return self.smtp[-1]
