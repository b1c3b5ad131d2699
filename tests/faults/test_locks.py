"""Locks that somebody does not let go of: no healthy process loses its session by them, and the rest of the queue goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from koukan.errors import StoreError
from koukan.storage.postgresql import POOL_SIZE
from koukan.storage.sessions import FENCE_AFTER
from koukan.storage.sql_store import SqlStore
from tests.support.house import becomes
from tests.support.postgres import PostgresServer
from tests.support.stores import crash, open_store, opened, sql, transaction

INTERVAL = 0.2


@pytest.fixture
async def stranger(postgres_server: PostgresServer, postgres_url: str) -> AsyncIterator[Any]:
    """A connection of somebody who begins a transaction and then does nothing."""
    connection = await postgres_server.connect(urlsplit(postgres_url).path[1:])
    yield connection
    await connection.close()


async def go_on(store: SqlStore, watcher: SqlStore) -> None:
    """Wait until a session has been refreshed over a time in which it would have been given up."""
    begun = await last_beat(watcher, store.session_id)
    wanted = begun + 2 * FENCE_AFTER * INTERVAL

    async def has_gone_on() -> bool:
        assert not store.fenced
        return await last_beat(watcher, store.session_id) > wanted

    await becomes(has_gone_on, 20)


async def last_beat(watcher: SqlStore, session_id: int) -> float:
    [row] = await sql(watcher, "SELECT updated FROM sessions WHERE id = $1", session_id)
    return float(row["updated"])


@pytest.mark.parametrize(
    "lock",
    [
        "SELECT 1 FROM queue JOIN transactions ON id = tx_id WHERE rest_id = 'locked' FOR UPDATE OF queue",
        "SELECT 1 FROM transactions WHERE rest_id = 'locked' FOR UPDATE",
    ],
)
async def test_a_locked_row_costs_nobody_his_session_and_keeps_no_other_from_being_freed(
    postgres_url: str, stranger: Any, lock: str
) -> None:
    async with opened(postgres_url) as watcher:
        await leave(postgres_url, watcher)
        async with stranger.transaction():
            await stranger.execute(lock)
            async with opened(postgres_url, "http://router-2:8000", INTERVAL) as store:
                await becomes(partial(are_free, watcher, 2))
                await go_on(store, watcher)
                claimed: list[str] = [found.id for found in await store.claim(10)]
                assert claimed != ["locked"] and len(claimed) == 1
        async with opened(postgres_url, "http://router-3:8000", INTERVAL):
            await becomes(partial(are_free, watcher, 3))


async def leave(url: str, watcher: SqlStore) -> None:
    """What a killed process leaves behind, found dead by now."""
    dead = await open_store(url, "http://dead:8000")
    names = ("locked", "a", "b")
    await dead.keep([transaction(name, rcpt=f"x@{name}.example", leased=True, attempts=1) for name in names])
    await crash(dead)
    await sql(watcher, "UPDATE sessions SET live = false WHERE id = $1", dead.session_id)


async def are_free(watcher: SqlStore, number: int) -> bool:
    rows = await sql(watcher, "SELECT 1 AS one FROM queue WHERE crashes = 1")
    return len(rows) == number


async def test_a_locked_table_and_a_pool_full_of_stuck_statements_cost_nobody_his_session(
    postgres_url: str, stranger: Any
) -> None:
    async with opened(postgres_url) as watcher, opened(postgres_url, "http://router-2:8000", INTERVAL) as store:
        async with stranger.transaction():
            await stranger.execute("LOCK TABLE queue IN ACCESS EXCLUSIVE MODE")
            stuck = [asyncio.ensure_future(store.cancel(f"t{number}")) for number in range(2 * POOL_SIZE)]
            await go_on(store, watcher)
        results = await asyncio.gather(*stuck, return_exceptions=True)
        assert all(result is False or isinstance(result, StoreError) for result in results)
        await store.keep([transaction("after")])
        assert [found.id for found in await store.claim(10)] == ["after"]


async def test_a_row_that_was_locked_at_the_end_of_its_session_is_no_crash(postgres_url: str, stranger: Any) -> None:
    async with opened(postgres_url) as watcher:
        leaving = await open_store(postgres_url, "http://router-2:8000")
        await leaving.keep([transaction("a", leased=True, attempts=1)])
        async with stranger.transaction():
            await stranger.execute("SELECT 1 FROM queue FOR UPDATE")
            await leaving.close()
        await watcher._reaper.reap()
        assert [found.id for found in await watcher.claim(10)] == ["a"]
        assert [row["crashes"] for row in await sql(watcher, "SELECT crashes FROM queue")] == [0]
