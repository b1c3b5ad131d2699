"""A database that goes away: what was answered 250 or 201 is delivered, what cannot be kept is a temporary failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.house import House, becomes, eventually
from tests.support.postgres import PostgresServer
from tests.support.smtp_dialogue import message, send


def patient(document: dict[str, Any]) -> None:
    """A restart of the database is no reason to give the session up."""
    document["storage"]["session_refresh_interval"] = 10


@pytest.fixture
async def house(tmp_path: Path, postgres_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, postgres_url, patient) as house:
        await house.sink.stop()
        yield house


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def is_ready(house: House, http: aiohttp.ClientSession, status: int) -> bool:
    async with http.get(f"{house.rest}/readyz") as answer:
        return answer.status == status


async def keep(house: House, subject: str) -> int:
    replies = await send(house.msa, "ann@example.net", ["bob@example.com"], message(subject))
    return max(reply.code for reply in replies)


async def create(house: House, http: aiohttp.ClientSession, subject: str) -> tuple[int, str | None]:
    """Status and Retry-After of a one-shot transaction and its upload, the first that is none of success."""
    document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "bob@example.com"}]}
    async with http.post(f"{house.rest}/senders/submission/transactions", json=document) as created:
        if created.status != 201:
            return created.status, created.headers.get("retry-after")
        location = created.headers["location"]
    async with http.put(f"{location}/body", data=message(subject)) as uploaded:
        return uploaded.status, uploaded.headers.get("retry-after")


def subjects(house: House) -> set[str]:
    return {mail.subject for mail in house.sink.received}


async def test_without_a_database_nothing_is_promised_and_nothing_is_refused_for_good(
    house: House, http: aiohttp.ClientSession, postgres_server: PostgresServer
) -> None:
    assert await is_ready(house, http, 200)
    await asyncio.to_thread(postgres_server.stop, "immediate")
    try:
        assert await keep(house, "not kept") == 451
        assert await create(house, http, "not created") == (503, "1")
        await becomes(partial(is_ready, house, http, 503))
    finally:
        await asyncio.to_thread(postgres_server.start)
    await becomes(partial(is_ready, house, http, 200))
    assert await keep(house, "kept") == 250
    assert await create(house, http, "created") == (200, None)
    await house.start_sink()
    await eventually(lambda: {"kept", "created"} <= subjects(house), 30)


async def more(promised: set[str]) -> None:
    """Wait until more has been promised: the load goes on."""
    enough = len(promised) + 40
    await eventually(lambda: len(promised) > enough, 30)


async def test_restarts_of_the_database_under_load_lose_nothing(
    house: House, http: aiohttp.ClientSession, postgres_server: PostgresServer
) -> None:
    promised: set[str] = set()
    codes: set[int] = set()
    over = asyncio.Event()

    async def load(worker: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            subject = f"w{worker}n{number}"
            code = await keep(house, subject) if worker % 2 else (await create(house, http, subject))[0]
            codes.add(code)
            if code in (200, 250):
                promised.add(subject)

    workers = [asyncio.ensure_future(load(worker)) for worker in range(10)]
    for mode in ("immediate", "fast"):
        await more(promised)
        await asyncio.to_thread(postgres_server.stop, mode)
        await asyncio.to_thread(postgres_server.start)
    await more(promised)
    over.set()
    await asyncio.gather(*workers)
    assert codes <= {200, 250, 450, 451, 503}
    await house.start_sink()
    await eventually(lambda: promised <= subjects(house), 60)
    assert not house.router.stopping.is_set()


async def test_a_router_that_takes_the_place_of_a_crashed_one_goes_on_with_its_work_at_once(
    tmp_path: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """Same address, session never ended, leases held: what kill -9 leaves behind."""
    async with House(tmp_path, postgres_url, patient) as house:
        await house.sink.stop()
        assert await keep(house, "orphan") == 250
        crashed = house.router.store.session_id
        await house.stop_router()
        connection = await postgres_server.connect(urlsplit(postgres_url).path[1:])
        await connection.execute("UPDATE sessions SET live = true WHERE id = $1", crashed)
        await connection.execute("UPDATE queue SET session_id = $1", crashed)
        await connection.close()
        await house.start_sink()
        await house.start_router()
        await eventually(lambda: subjects(house) == {"orphan"}, 10)
