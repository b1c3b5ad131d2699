"""Our REST client in tests: transactions that are opened, stepped through, and what came of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from koukan.blob.bodies import BytesBody
from koukan.model import Mailbox, Step, StepResult
from koukan.rest import remote
from koukan.rest.client import RestUpstream
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, Target
from tests.support.oldserver import OldServer, Seen

ANN = Mailbox("ann@example.net")
BOB, CARL = Mailbox("bob@example.com"), Mailbox("carl@example.com")
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
LARGE = bytes(range(256)) * 1000
NOBODY = Conversation()

#: a transaction at a URL; further arguments are the conversation and options of Target
Open = Callable[..., RestUpstream]


@asynccontextmanager
async def opener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens transactions; polls that bring nothing are 50 ms apart instead of a second."""
    monkeypatch.setattr(remote, "POLL_SPACING", 0.05)
    clients = HttpClients()

    def upstream(url: str, conversation: Conversation = NOBODY, **options: Any) -> RestUpstream:
        options = {"rcpt_timeout": 10, "data_timeout": 10, **options}
        return RestUpstream(clients, Target(url, "x", "tag", **options), conversation)

    yield upstream
    await clients.close()


def codes(result: StepResult) -> list[int | None]:
    """The codes of MAIL, of each RCPT and of the data."""
    return [None if answer is None else answer.code for answer in (result.mail, *result.rcpt, result.data)]


async def deliver(upstream: RestUpstream, body: Any = None, rcpts: tuple[Mailbox, ...] = (BOB,)) -> StepResult:
    """A whole transaction in two steps."""
    result = await upstream.step(Step(ANN, rcpts))
    result.data = (await upstream.step(Step(body=BytesBody(MESSAGE) if body is None else body))).data
    return result


def failing(server: OldServer, method: str, *, times: int, how: int) -> None:
    """The first so many requests of that method are answered with a status."""
    left = [times]

    async def intercept(seen: Seen) -> web.StreamResponse | None:
        if seen.method != method or left[0] == 0:
            return None
        left[0] -= 1
        return web.Response(status=how, text="trouble")

    server.intercept = intercept
