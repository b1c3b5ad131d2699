"""Outages of the database: a process that has to give its session up is no crash of what was in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.house import becomes, eventually
from tests.support.postgres import PostgresServer
from tests.support.stores import deferred, open_store, opened, sql, transaction

INTERVAL = 0.2


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, to be stopped."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


async def test_repeated_outages_hold_no_innocent_mail(server: PostgresServer) -> None:
    url = server.url("postgres")
    async with opened(url) as store:
        await store.keep([transaction("a")])
    for attempt in range(1, 5):
        router = await open_store(url, interval=INTERVAL)
        [claimed] = await router.claim(10)
        assert claimed.attempts == attempt
        await asyncio.to_thread(server.stop, "immediate")
        await eventually(lambda router=router: router.fenced)
        closing = asyncio.ensure_future(router.close())
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(closing, 30)
    async with opened(url, "http://router-2:8000") as store:
        [row] = await sql(store, "SELECT crashes, held, session_id, tries FROM queue")
        assert (row["crashes"], row["held"], row["session_id"], row["tries"]) == (0, None, None, 0)


async def test_whoever_is_heard_now_and_then_lives_whatever_the_databases_clock_says(server: PostgresServer) -> None:
    url = server.url("postgres")
    first = await open_store(url, "http://router-1:8000", 60.0)
    second = await open_store(url, "http://router-2:8000", INTERVAL)
    await first.keep([transaction("a", leased=True, attempts=1)])

    async def set_the_clock() -> None:
        """Forward: what was written before is old."""
        await sql(second, "UPDATE sessions SET updated = updated - 100 WHERE id = $1", first.session_id)

    async def is_dead() -> bool:
        return not (await sql(second, "SELECT live FROM sessions WHERE id = $1", first.session_id))[0]["live"]

    for _ in range(20):
        await first._session.beat()
        await set_the_clock()
        await second._reaper.reap()
        assert not await is_dead()
    await becomes(is_dead)  # from now on nothing is heard of it
    await second.claim(10)
    await second.finish_attempt(deferred("a", 2))
    await first.close()
    await second.close()
