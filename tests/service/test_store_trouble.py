"""The database in trouble: answers to commits that get lost, servers that go away and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from koukan.errors import StaleAttempt, StoreError
from koukan.storage import writer
from koukan.storage.database import CommitUnknown, Connection
from koukan.storage.sql_store import SqlStore
from koukan.storage.store import BlobState
from tests.support.postgres import PostgresServer
from tests.support.stores import SUCCESS, count, crash, deferred, delivered, open_store, opened, sql, transaction


class Flaky:
    """Troubles of the next database transactions of a store, in order: `None` lets one through.

    `lost` commits, but its answer gets lost; `cut` is cut off before its commit, and nobody knows; `down` fails for certain.
    """

    def __init__(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.troubles: list[str | None] = []
        self._transaction = store._database.transaction
        monkeypatch.setattr(store._database, "transaction", self._troubled)

    async def _troubled(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble == "cut":
            raise CommitUnknown("cut off")
        if trouble == "down":
            raise StoreError("down")
        result = await self._transaction(work)
        if trouble == "lost":
            raise CommitUnknown("the answer was lost")
        return result


@pytest.fixture
async def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqlStore]:
    monkeypatch.setattr(writer, "LOOK_PAUSE", 0.01)
    async with opened(database_url) as store:
        yield store


@pytest.fixture
def flaky(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    return Flaky(store, monkeypatch)


TROUBLES = [["lost"], ["cut"], ["down"], ["lost", "down", "down"], ["cut", "down", "down"], ["cut", None, "lost"]]


async def insisting(write: Callable[[], Awaitable[Any]]) -> Any:
    """As the router does, and clients that upload: an error that may pass is no reason to give up."""
    while True:
        try:
            return await write()
        except StaleAttempt:
            raise
        except StoreError:
            await asyncio.sleep(0)


@pytest.mark.parametrize("troubles", TROUBLES)
async def test_what_is_kept_is_there_once(store: SqlStore, flaky: Flaky, troubles: list[str | None]) -> None:
    flaky.troubles = list(troubles)
    await asyncio.gather(*(store.keep([transaction(f"t{n}", leased=True, attempts=1)]) for n in range(5)))
    assert await count(store, "transactions") == await count(store, "queue") == await count(store, "blobs") == 5
    await store._leases.release_strays()
    for n in range(5):
        await store.finish_attempt(delivered(f"t{n}"))


@pytest.mark.parametrize("troubles", TROUBLES)
async def test_an_outcome_is_written_once_with_its_bounce(
    store: SqlStore, flaky: Flaky, troubles: list[str | None]
) -> None:
    await store.keep([transaction("a", leased=True, attempts=1), transaction("b", leased=True, attempts=1)])
    flaky.troubles = list(troubles)
    await asyncio.gather(
        insisting(lambda: store.finish_attempt(delivered("a", bounce=transaction("bounce")))),
        insisting(lambda: store.finish_attempt(deferred("b"))),
    )
    assert [found.id for found in await store.claim(10)] == ["bounce"]
    found = await store.load("a")
    assert found is not None and found.final_reason == SUCCESS
    assert await count(store, "attempts") == 2


@pytest.mark.parametrize("troubles", TROUBLES)
async def test_bytes_are_appended_once(store: SqlStore, flaky: Flaky, troubles: list[str | None]) -> None:
    await store.keep([transaction("a", body=None)])
    await store.append("a", "body", 0, b"one ", None)
    flaky.troubles = list(troubles)
    assert await insisting(lambda: store.append("a", "body", 4, b"two", 7)) == BlobState(7, 7)
    [found] = await store.claim(10)
    assert await store.read_body(found).read() == b"one two"


async def test_a_database_that_stays_away_is_an_error_and_nothing_is_held(store: SqlStore, flaky: Flaky) -> None:
    flaky.troubles = ["down"] * writer.TRIES
    with pytest.raises(StoreError, match="down"):
        await store.keep([transaction("a", leased=True, attempts=1)])
    flaky.troubles = ["lost", *["down"] * writer.LOOKS]
    with pytest.raises(StoreError, match="down"):
        await store.keep([transaction("b", leased=True, attempts=1)])
    # "b" is written for all that: nobody works on it here, and it is free at the next heartbeat
    assert await store.claim(10) == []
    with pytest.raises(StaleAttempt):
        await store.finish_attempt(delivered("b"))
    await store._leases.release_strays()
    assert [found.id for found in await store.claim(10)] == ["b"]
    assert await store.load("a") is None


async def test_history_waits_for_the_database_and_is_bounded(
    store: SqlStore, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "HISTORY_LIMIT", 20)
    monkeypatch.setattr(writer, "HISTORY_DELAY", 0.01)
    flaky.troubles = ["down"] * 10
    for n in range(30):
        store.record(transaction(f"h{n}", final_reason=SUCCESS, body=None))
    assert store._writer.dropped == 10
    async with asyncio.timeout(20):
        while await count(store, "transactions") < 20:
            await store.ping()
    assert await store.load("h9") is None and await store.load("h29") is not None


# --- a server that really goes away -----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be stopped."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


async def test_a_server_that_crashes_and_comes_back(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LOOK_PAUSE", 0.01)
    url = server.url("postgres")
    store = await open_store(url)
    kept: list[str] = []

    async def keep(tx_id: str) -> None:
        await store.keep([transaction(tx_id, leased=True, attempts=1)])
        kept.append(tx_id)

    keeping = [asyncio.ensure_future(keep(f"t{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(server.stop, "immediate")
    results = await asyncio.gather(*keeping, return_exceptions=True)
    assert all(result is None or isinstance(result, StoreError) for result in results)
    for operation in (store.ping(), store.claim(1), store.load("t0"), store.keep([transaction("down")])):
        with pytest.raises(StoreError):
            await operation
    await asyncio.to_thread(server.start)
    await store.ping()
    await store.keep([transaction("up")])
    for tx_id in kept:
        await store.finish_attempt(delivered(tx_id))
    rows = await sql(store, "SELECT rest_id FROM transactions WHERE final_reason IS NULL")
    assert {row["rest_id"] for row in rows} >= {"up"}
    assert await store.load("down") is None
    await store.close()


async def test_a_store_closes_without_its_database(server: PostgresServer) -> None:
    store = await open_store(server.url("postgres"))
    store.record(transaction("history", final_reason=SUCCESS, body=None))
    await asyncio.to_thread(server.stop, "immediate")
    async with asyncio.timeout(30):
        await store.close()
    await asyncio.to_thread(server.start)


async def test_a_sqlite_file_survives_a_crash_in_the_middle(sqlite_url: str) -> None:
    dead = await open_store(sqlite_url)
    await dead.keep([transaction("a", due_in=3600)])
    await crash(dead)
    async with opened(sqlite_url) as store:
        assert (await store.stats()).depth == 1
        assert [row["integrity_check"] for row in await sql(store, "PRAGMA integrity_check")] == ["ok"]
