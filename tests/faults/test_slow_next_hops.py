"""A next hop that takes a large message slowly, but never stops taking it: slowness is no silence, at either end."""

from __future__ import annotations

import asyncio

import pytest

from koukan.blob.bodies import BytesBody
from koukan.gateway.service import GatewayService
from koukan.model import HostPort, Mailbox, Response, Step, StepResult, Upstream
from koukan.rest.client import RestUpstream
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, Target
from koukan.rest.server import RestServer
from tests.faults.hops import LOOPBACK
from tests.faults.virtual import run

OK = Response(250, "2.0.0 ok")
MEGABYTE = 1024 * 1024


class ThinLine(Upstream):
    """An SMTP server that takes `rate` bytes a second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.taken = 0

    async def step(self, step: Step) -> StepResult:
        if step.body is not None:
            async for chunk in step.body.chunks():
                await asyncio.sleep(len(chunk) / self.rate)
                self.taken += len(chunk)
        return StepResult.all(step, OK)

    async def heartbeat(self) -> None:
        """Nobody hears it."""

    async def cancel(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("envelope_seconds", [30, 6], ids=["one host", "five hosts"])
@pytest.mark.parametrize(("megabytes", "rate"), [(1, 100_000), (3, 50_000), (10, 200_000), (25, 500_000)])
def test_a_large_message_arrives(megabytes: int, rate: int, envelope_seconds: int) -> None:
    async def story() -> Response | None:
        service = GatewayService(lambda tag, host: line, session_uri="http://unused.example")
        server = RestServer(service)
        await server.start(HostPort(LOOPBACK, 0))
        service.session_uri = service.service_uri = f"http://{server.address}"
        clients = HttpClients()
        url = f"http://{server.address}/senders/router/transactions"
        target = Target(url, "x", "out", rcpt_timeout=envelope_seconds, settle_timeout=660)
        upstream = RestUpstream(clients, target, Conversation(HostPort(LOOPBACK, 25)))
        await upstream.step(Step(Mailbox("ann@example.net"), [Mailbox("bob@example.com")]))
        answer = (await upstream.step(Step(body=BytesBody(bytes(megabytes * MEGABYTE))))).data
        await upstream.cancel()
        await server.stop()
        await service.stop()
        await clients.close()
        return answer

    line = ThinLine(rate)
    assert run(story) == OK and line.taken == megabytes * MEGABYTE
