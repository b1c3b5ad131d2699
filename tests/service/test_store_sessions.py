"""Sessions and leases: what becomes of a process's work when it ends, dies, or is thought dead (storage-leasing.md §4)."""

from __future__ import annotations

import asyncio

import pytest

from koukan.errors import StaleAttempt, StartupError, StoreError
from koukan.storage.sessions import Session
from koukan.storage.sql_store import SqlStore
from tests.support.stores import (
    QUIET,
    SUCCESS,
    count,
    crash,
    deferred,
    delivered,
    open_store,
    opened,
    see_silence,
    sql,
    transaction,
)

FIRST, SECOND = "http://router-1:8000", "http://router-2:8000"


async def silence(store: SqlStore, session_id: int) -> None:
    """Make the database believe that a session has been silent for longer than it may."""
    await sql(store, "UPDATE sessions SET updated = updated - $2 WHERE id = $1", session_id, 11 * QUIET)


async def test_every_start_is_a_session_of_its_own(database_url: str) -> None:
    async with opened(database_url) as store:
        first = store.session_id
        assert await store.session_uri(first) == FIRST
        assert (await store.stats()).live_sessions == 1
    async with opened(database_url, SECOND) as store:
        assert store.session_id > first
        assert await store.session_uri(first) is None
        assert await store.session_uri(store.session_id) == SECOND
        assert (await store.stats()).live_sessions == 1


async def test_a_clean_stop_frees_its_leases_at_once_and_is_no_crash(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.keep([transaction("a", leased=True, attempts=1)])
        await store.keep([transaction("upload", body=None, leased=True, attempts=1)])
    async with opened(database_url) as store:
        [claimed] = await store.claim(10)
        assert claimed.id == "a" and claimed.attempts == 2
        assert [row["crashes"] for row in await sql(store, "SELECT crashes FROM queue")] == [0, 0]
        found = await store.load("upload")
        assert found is not None and found.lease_uri is None
        await store.append("upload", "body", 0, b"x", 1)
        assert [c.id for c in await store.claim(10)] == ["upload"]


async def test_a_process_that_starts_where_another_died_takes_its_work_over_at_once(database_url: str) -> None:
    dead = await open_store(database_url)
    await dead.keep([transaction("a", leased=True, attempts=1)])
    await crash(dead)
    async with opened(database_url) as store:
        await store.succeed()
        [claimed] = await store.claim(10)
        assert claimed.attempts == 2 and claimed.version > 1
        assert [row["crashes"] for row in await sql(store, "SELECT crashes FROM queue")] == [1]
        await store.finish_attempt(deferred("a", 2, retry_in=0))
        assert [row["crashes"] for row in await sql(store, "SELECT crashes FROM queue")] == [0]


async def test_a_message_that_crashes_its_process_again_and_again_is_quarantined(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.keep([transaction("poison", due_in=-10), transaction("good")])
    for attempt in (1, 2, 3):
        dead = await open_store(database_url)
        await dead.succeed()
        await sql(dead, "UPDATE queue SET due_at = due_at - 100 WHERE attempt > 0")
        [claimed] = await dead.claim(1)
        assert (claimed.id, claimed.attempts) == ("poison", attempt)
        await crash(dead)
    async with opened(database_url) as store:
        await store.succeed()
        assert [claimed.id for claimed in await store.claim(10)] == ["good"]
        found = await store.load("poison")
        assert found is not None and found.held is not None and "quarantined" in found.held
        assert found.final_reason is None and found.input_done
        assert await store.read_body(found).read()  # its bytes are kept
        await sql(store, "UPDATE transactions SET updated = updated - 7200")
        assert await store.collect(3600, 10) == 0
        assert (await store.stats()).depth == 2


async def test_leases_that_nobody_here_knows_of_are_freed(database_url: str) -> None:
    """A commit went through, but its answer got lost."""
    async with opened(database_url) as store:
        await store.keep([transaction(tx_id, leased=True, attempts=1) for tx_id in ("known", "stray")])
        store._leases.forget("stray", 1)
        await store._leases.release_strays()
        [claimed] = await store.claim(10)
        assert claimed.id == "stray" and claimed.attempts == 2
        await store.finish_attempt(delivered("known"))


async def test_dead_sessions_are_forgotten_after_a_while(database_url: str) -> None:
    async with opened(database_url):
        pass
    async with opened(database_url) as store:
        await store._session.forget_dead()
        assert await count(store, "sessions") == 2
        await sql(store, "UPDATE sessions SET updated = updated - $1 WHERE NOT live", 1001 * QUIET)
        await store._session.forget_dead()
        assert await count(store, "sessions") == 1


async def test_what_a_forgotten_session_still_holds_is_freed(database_url: str) -> None:
    """Its row has been deleted before anybody freed its leases: the work must not wait for somebody who is not there."""
    dead = await open_store(database_url)
    await dead.keep([transaction("a", leased=True, attempts=1)])
    await crash(dead)
    async with opened(database_url, SECOND) as store:
        await sql(store, "UPDATE queue SET session_id = $1", dead.session_id)
        await sql(store, "DELETE FROM sessions WHERE id = $1", dead.session_id)
        await store._reaper.reap()
        assert [claimed.id for claimed in await store.claim(10)] == ["a"]


@pytest.mark.parametrize("session_id", [0, -1, 2**31, 2**63, 2**200, 4711])
async def test_a_session_that_cannot_be_is_nowhere(database_url: str, session_id: int) -> None:
    async with opened(database_url) as store:
        assert await store.session_uri(session_id) is None


# --- the process's own end --------------------------------------------------------------------------------------------------


async def test_a_process_that_was_declared_dead_notices_and_writes_nothing_more(database_url: str) -> None:
    fenced = asyncio.Event()
    store = await open_store(database_url, interval=0.05, on_fenced=fenced.set)
    await store.keep([transaction("a", leased=True, attempts=1)])
    await sql(store, "UPDATE sessions SET live = false")
    async with asyncio.timeout(10):
        await fenced.wait()
    assert store.fenced
    assert await store.claim(10) == []
    with pytest.raises(StoreError):
        await store.keep([transaction("b")])
    with pytest.raises(StaleAttempt):
        await store.finish_attempt(delivered("a"))
    await store.close()
    async with opened(database_url) as other:
        assert [claimed.id for claimed in await other.claim(10)] == ["a"]


async def test_a_fenced_process_takes_no_bytes_and_no_cancels(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.keep([transaction("a", body=None, leased=True, attempts=1)])
        store._session._fence("the test says so")
        for refused in (
            store.append("a", "body", 0, b"x", 1),
            store.cancel_leased("a"),
            store.keep([transaction("b")]),
        ):
            with pytest.raises(StoreError, match="has lost its session"):
                await refused
        found = await store.load("a")
        assert found is not None and found.blobs["body"].size == 0


async def test_a_process_that_cannot_confirm_its_session_gives_up_before_the_others_take_over(sqlite_url: str) -> None:
    clock = [100.0]
    lost: list[bool] = []
    async with opened(sqlite_url) as store:
        session = Session(store._database, 1, 10.0, lambda: lost.append(True), monotonic=lambda: clock[0])
        clock[0] += 49.0
        assert not session.fenced and lost == []
        clock[0] += 1.0
        assert session.fenced and session.fenced and lost == [True]


# --- several processes: PostgreSQL ------------------------------------------------------------------------------------------


async def test_work_is_shared_between_processes_and_nothing_is_taken_twice(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        await first.keep([transaction(f"t{n}") for n in range(100)])
        claimed: list[str] = []
        # What one looks at is passed over by the other for the moment, so that both look again.
        while batches := [b for b in await asyncio.gather(first.claim(10), second.claim(10)) if b]:
            claimed += [found.id for batch in batches for found in batch]
        assert len(claimed) == len(set(claimed)) == 100


async def test_a_lease_of_a_live_session_shows_where_its_holder_is(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        await first.keep([transaction("a", leased=True, attempts=1)])
        found = await second.load("a")
        assert found is not None and found.lease_uri == FIRST and not found.leased_here
        assert await second.claim(10) == [] and not await second.cancel("a")
        await see_silence(second)
        await second.succeed()  # another address: no business of its
        found = await second.load("a")
        assert found is not None and found.lease_uri == FIRST
        await first.finish_attempt(delivered("a"))


async def test_a_silent_process_loses_its_leases_and_its_late_writes_are_refused(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        await first.keep([transaction("a", leased=True, attempts=1, notification=True)])
        await silence(second, first.session_id)
        await see_silence(second)
        found = await second.load("a")
        assert found is not None and found.lease_uri is None and found.version > 1000
        [claimed] = await second.claim(10)
        assert claimed.attempts == 2
        with pytest.raises(StaleAttempt):
            await first.finish_attempt(delivered("a", 1, bounce=transaction("bounce")))
        assert await second.load("bounce") is None
        with pytest.raises(StaleAttempt):
            await first.finish_attempt(delivered("a", 2))
        await second.finish_attempt(delivered("a", 2))
        found = await first.load("a")
        assert found is not None and found.final_reason == SUCCESS and found.attempts == 2


async def test_a_dead_process_cannot_claim_even_before_it_notices(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        await second.keep([transaction("a")])
        await silence(second, first.session_id)
        await see_silence(second)
        assert not first.fenced
        assert await first.claim(10) == []
        assert len(await second.claim(10)) == 1


async def test_a_commit_that_ends_after_the_death_of_its_process_is_freed_too(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        await sql(second, "UPDATE sessions SET live = false WHERE id = $1", first.session_id)
        await first.keep([transaction("late", leased=True, attempts=1)])
        assert await second.claim(10) == []
        await see_silence(second)
        assert [claimed.id for claimed in await second.claim(10)] == ["late"]


async def test_two_uploads_that_end_at_once_in_two_processes_make_the_transaction_due(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        for n in range(20):
            tx_id = f"t{n}"
            await first.keep([transaction(tx_id, body=None, spec={}, blobs={"one": None, "two": None})])
            await asyncio.gather(first.append(tx_id, "one", 0, b"1", 1), second.append(tx_id, "two", 0, b"2", 1))
            assert [claimed.id for claimed in await first.claim(10)] == [tx_id]


async def test_collections_at_the_same_time_leave_no_blob_behind(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        for _ in range(5):
            await first.keep([transaction("a", leased=True, attempts=1)])
            ref = await first.find_blob("a", "body", "submission")
            await second.keep([transaction("b", body=ref, leased=True, attempts=1)])
            await first.finish_attempt(delivered("a"))
            await second.finish_attempt(delivered("b"))
            await sql(first, "UPDATE transactions SET updated = updated - 7200")
            while await count(first, "transactions"):
                await asyncio.gather(first.collect(3600, 1), second.collect(3600, 1))
            assert await count(first, "blobs") == 0


async def test_a_blob_is_not_collected_while_another_process_begins_to_share_it(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url, SECOND) as second:
        for n in range(20):
            await first.keep([transaction(f"old{n}", leased=True, attempts=1)])
            await first.finish_attempt(delivered(f"old{n}"))
            ref = await second.find_blob(f"old{n}", "body", "submission")
            await sql(first, "UPDATE transactions SET updated = updated - 7200 WHERE final_reason IS NOT NULL")
            kept, _ = await asyncio.gather(
                second.keep([transaction(f"new{n}", body=ref)]), first.collect(3600, 10), return_exceptions=True
            )
            found = await second.load(f"new{n}")
            if kept is None:
                assert found is not None and await second.read_body(found).read()
            else:
                assert isinstance(kept, StoreError) and found is None


# --- one process: SQLite ----------------------------------------------------------------------------------------------------


async def test_a_second_process_on_one_sqlite_file_is_refused_with_one_clear_line(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store:
        with pytest.raises(StartupError, match="in use by another process; SQLite serves one, use PostgreSQL") as error:
            await open_store(sqlite_url, SECOND)
        assert "\n" not in str(error.value)
        await store.keep([transaction("a")])
    async with opened(sqlite_url, SECOND) as store:
        assert [claimed.id for claimed in await store.claim(1)] == ["a"]


async def test_with_sqlite_whoever_starts_is_alone_and_takes_over_at_once(sqlite_url: str) -> None:
    dead = await open_store(sqlite_url, FIRST)
    await dead.keep([transaction("a", leased=True, attempts=1)])
    await crash(dead)
    async with opened(sqlite_url, SECOND) as store:
        assert [claimed.id for claimed in await store.claim(1)] == ["a"]
        assert (await store.stats()).live_sessions == 1
