"""The submission client (`koukan send`, koukan.rest.submission) against servers in trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from koukan.errors import UpstreamError
from koukan.rest import submission
from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Submission
from tests.support.oldserver import OK, OldServer, Seen

FINAL = {
    "mail_response": OK,
    "rcpt_response": [OK],
    "data_response": OK,
    "final_attempt_reason": "upstream response success",
}


@pytest.fixture
async def clients(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpClients]:
    monkeypatch.setattr(submission, "_SPACING", 0.02)
    clients = HttpClients()
    yield clients
    await clients.close()


def answers(server: OldServer, *polls: int) -> None:
    """Statuses of the polls in order, then the final document for ever."""
    left = list(polls)

    async def intercept(seen: Seen) -> web.StreamResponse | None:
        if seen.method != "GET":
            return None
        status = left.pop(0) if left else 200
        document: Any = FINAL if status == 200 else {}
        return web.json_response(document, status=status, headers={"etag": str(9 - len(left))})

    server.intercept = intercept


@pytest.mark.parametrize("location", ["{base}/transactions/T", "/transactions/T"])
async def test_troubles_on_the_way_do_not_matter(clients: HttpClients, location: str) -> None:
    async with OldServer(location=location) as server:
        answers(server, 500, 503, 304, 502)
        sender = Submission(clients, server.url)
        progress = await sender.submit("ann@example.net", "bob@example.com", Message({}))
        async for _ in sender.follow(progress, 10):
            continue
        assert progress.final and progress.answer is not None and progress.answer.ok
        assert len(server.sent("GET")) == 5


async def test_a_transaction_that_is_unknown_ends_at_once(clients: HttpClients) -> None:
    async with OldServer() as server:
        answers(server, 404)
        sender = Submission(clients, server.url)
        progress = await sender.submit("ann@example.net", "bob@example.com", Message({}))
        with pytest.raises(UpstreamError, match="answered 404"):
            async for _ in sender.follow(progress, 10):
                continue


async def test_a_server_that_stays_away_is_an_error_in_the_end(clients: HttpClients) -> None:
    async with OldServer() as server:
        sender = Submission(clients, server.url)
        progress = await sender.submit("ann@example.net", "bob@example.com", Message({}))
        await server.stop()
        with pytest.raises(UpstreamError, match=r"127\.0\.0\.1"):
            async for _ in sender.follow(progress, 0.3):
                continue


@pytest.mark.parametrize("location", ["", "file:///x", "http://["])
async def test_a_place_that_is_none(clients: HttpClients, location: str) -> None:
    async with OldServer(location=location) as server:
        with pytest.raises(UpstreamError):
            await Submission(clients, server.url).submit("ann@example.net", "bob@example.com", Message({}))
