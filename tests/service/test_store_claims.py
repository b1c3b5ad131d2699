"""What is claimed, and what is not: suspects one at a time, no destination more than its share, tries counted apart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from koukan.storage.leases import SUSPECT_PATIENCE
from koukan.storage.sql_store import SqlStore
from koukan.storage.store import CANCELLED
from tests.support.stores import (
    SUCCESS,
    count,
    crash,
    deferred,
    delivered,
    open_store,
    opened,
    sql,
    transaction,
)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    async with opened(database_url) as store:
        yield store


class Clock:
    """A store's own clock, as the test turns it."""

    def __init__(self, store: SqlStore) -> None:
        self.now = store._leases._time()
        store._leases._time = lambda: self.now


async def suspects(store: SqlStore, *names: str) -> None:
    """What was in flight when a process died."""
    await store.keep([transaction(name, rcpt=f"x@{name}.example") for name in names])
    await sql(store, "UPDATE queue SET crashes = 1")


# --- suspects ---------------------------------------------------------------------------------------------------------------


async def test_of_what_took_a_process_down_one_is_tried_at_a_time_beside_all_other_mail(store: SqlStore) -> None:
    await suspects(store, "s1", "s2", "s3")
    await store.keep([transaction(f"t{n}", rcpt=f"x@{n}.example") for n in range(5)])
    claimed = {found.id for found in await store.claim(50)}
    assert len(claimed & {"s1", "s2", "s3"}) == 1 and len(claimed) == 6
    assert await store.claim(50) == []
    [suspect] = claimed & {"s1", "s2", "s3"}
    await store.finish_attempt(deferred(suspect))  # it has been answered, and is cleared
    assert [found.id for found in await store.claim(50) if found.id in ("s1", "s2", "s3")] != []
    [row] = await sql(store, "SELECT crashes FROM queue JOIN transactions ON id = tx_id WHERE rest_id = $1", suspect)
    assert row["crashes"] == 0


async def test_a_suspect_with_a_slow_next_hop_keeps_the_others_waiting_for_seconds_only(store: SqlStore) -> None:
    await suspects(store, "s1", "s2")
    clock = Clock(store)
    [slow] = await store.claim(50)
    clock.now += SUSPECT_PATIENCE - 0.1
    assert await store.claim(50) == []
    clock.now += 0.2
    [other] = await store.claim(50)
    assert other.id != slow.id


async def test_one_poison_message_is_held_and_the_innocents_that_were_in_flight_with_it_are_not(
    database_url: str,
) -> None:
    """Each process takes what it can and dies as soon as the poison is among it; else all of it is answered."""
    innocents = [f"innocent{n}" for n in range(49)]
    async with opened(database_url) as store:
        await store.keep([transaction(name, rcpt=f"x@{name}.example") for name in ("poison", *innocents)])
    answered: Counter[str] = Counter()
    for _ in range(10):
        process = await open_store(database_url)
        await process.succeed()
        if not await work_until_it_dies(process, answered):
            await process.close()
            break
        await crash(process)
    async with opened(database_url) as store:
        held = await sql(store, "SELECT rest_id FROM queue JOIN transactions ON id = tx_id WHERE held IS NOT NULL")
        assert [row["rest_id"] for row in held] == ["poison"]
    assert set(answered) == set(innocents)


async def work_until_it_dies(process: SqlStore, answered: Counter[str]) -> bool:
    """Whether the poison got it."""
    while claimed := await process.claim(50):
        if "poison" in [found.id for found in claimed]:
            return True
        for found in claimed:
            answered[found.id] += 1
            await process.finish_attempt(delivered(found.id, found.attempts))
    return False


# --- shares of destinations -------------------------------------------------------------------------------------------------


async def test_a_destination_that_hangs_leaves_room_for_retries_to_others(store: SqlStore) -> None:
    await store.keep([transaction(f"dead{n}", due_in=-100, rcpt="x@dead.example") for n in range(60)])
    running: Counter[str] = Counter()
    for _ in range(3):
        running.update(found.destination for found in await store.claim(50 - running.total(), running))
    assert running == {"dead.example": 25}
    await store.keep([transaction(f"fine{n}", rcpt=f"x@fine{n}.example") for n in range(10)])
    claimed = await store.claim(50 - running.total(), running)
    assert sorted(found.destination for found in claimed) == [f"fine{n}.example" for n in range(10)]


async def test_mail_behind_a_backlog_is_found_however_long_that_is(store: SqlStore) -> None:
    """With one place free, four are looked at: all of them wait for the destination that has its share."""
    await store.keep([transaction(f"dead{n}", due_in=-100, rcpt="x@dead.example") for n in range(600)])
    await store.keep([transaction("fine", rcpt="x@fine.example"), transaction("later", due_in=60, rcpt="x@z.example")])
    running = {"dead.example": 49}
    [found] = await store.claim(1, running)
    assert found.id == "fine"
    assert await store.claim(1, running) == []


async def test_the_look_behind_a_backlog_goes_round_all_destinations(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koukan.storage.leases.DESTINATIONS", 3)
    await store.keep([transaction(f"dead{n}", due_in=-100, rcpt="x@dead.example") for n in range(100)])
    await store.keep([transaction(f"t{n}", rcpt=f"x@{n:02}.example") for n in range(12)])
    running = Counter({"dead.example": 49})
    found: list[str] = []
    for _ in range(20):
        found += [claimed.id for claimed in await store.claim(1, running)]
    assert sorted(found) == sorted(f"t{n}" for n in range(12))


# --- tries ------------------------------------------------------------------------------------------------------------------


async def tries(store: SqlStore) -> tuple[int, int]:
    """The number of the attempt, and how many tries there were."""
    [row] = await sql(store, "SELECT attempt, tries FROM queue")
    return row["attempt"], row["tries"]


async def test_attempts_are_numbered_and_tries_are_counted(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.keep([transaction("a", leased=True, attempts=1)])
        await store.finish_attempt(deferred("a", 1, retry_in=0))
        assert await tries(store) == (1, 1)
        [claimed] = await store.claim(1)
        assert (claimed.attempts, claimed.tries) == (2, 1)
        await store.finish_attempt(deferred("a", 2, retry_in=0, tried=False))  # nobody was asked
        assert await tries(store) == (2, 1)
        await store.claim(1)
    async with opened(database_url) as store:  # the lease was given back by the end of the process
        assert await tries(store) == (3, 1)
        [claimed] = await store.claim(1)
        assert (claimed.attempts, claimed.tries) == (4, 1)
        await crash(store)
        async with opened(database_url) as other:
            await other.succeed()
            [claimed] = await other.claim(1)
            assert (claimed.attempts, claimed.tries) == (5, 1)
            await other.finish_attempt(deferred("a", 5))
            assert await tries(other) == (5, 2)


async def test_what_is_kept_after_its_first_try_begins_with_one(store: SqlStore) -> None:
    await store.keep([transaction("a", attempts=1, tries=1)])
    [claimed] = await store.claim(1)
    assert (claimed.attempts, claimed.tries) == (2, 1)


# --- cancels ----------------------------------------------------------------------------------------------------------------


async def test_a_cancel_under_a_lease_ends_it_when_it_is_given_back(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1), transaction("b", leased=True, attempts=1)])
    assert await store.cancel_leased("a")
    assert await store.finish_attempt(deferred("a", retry_in=0)) == CANCELLED
    assert await store.finish_attempt(deferred("b", retry_in=0)) is None
    found = await store.load("a")
    assert found is not None and found.cancelled and found.final_reason == CANCELLED and found.attempts == 1
    assert [claimed.id for claimed in await store.claim(10)] == ["b"]
    assert await count(store, "queue") == 1


async def test_a_cancel_after_the_delivery_changes_nothing(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1)])
    assert await store.cancel_leased("a")
    assert await store.finish_attempt(delivered("a")) == SUCCESS
    found = await store.load("a")
    assert found is not None and not found.cancelled and found.final_reason == SUCCESS
    assert not await store.cancel_leased("a") and not await store.cancel("a")


async def test_a_cancel_holds_after_the_end_of_the_process_that_got_it(database_url: str) -> None:
    dead = await open_store(database_url)
    await dead.keep([transaction("a", leased=True, attempts=1), transaction("b", leased=True, attempts=1)])
    assert await dead.cancel_leased("a")
    await crash(dead)
    async with opened(database_url) as store:
        await store.succeed()
        assert [claimed.id for claimed in await store.claim(10)] == ["b"]
        found = await store.load("a")
        assert found is not None and found.cancelled and found.version > 1000


async def test_a_cancelled_stray_is_over(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1)])
    assert await store.cancel_leased("a")
    store._leases.forget("a", 1)
    await store._leases.release_strays()
    found = await store.load("a")
    assert found is not None and found.cancelled and await count(store, "queue") == 0


async def test_a_cancel_takes_what_a_dead_process_still_holds(database_url: str) -> None:
    dead = await open_store(database_url)
    await dead.keep([transaction("a", leased=True, attempts=1)])
    await sql(dead, "UPDATE sessions SET live = false")
    await crash(dead)
    async with opened(database_url) as store:
        assert not await store.cancel_leased("a")
        await sql(store, "UPDATE queue SET session_id = $1", dead.session_id)  # should nobody have freed it yet
        assert await store.cancel("a")
        assert await store.claim(10) == []


async def test_cancels_and_outcomes_at_the_same_time_agree(store: SqlStore) -> None:
    for number in range(30):
        name = f"t{number}"
        await store.keep([transaction(name, leased=True, attempts=1)])
        marked, written = await asyncio.gather(
            store.cancel_leased(name), store.finish_attempt(deferred(name, retry_in=0))
        )
        found = await store.load(name)
        assert found is not None
        assert (found.final_reason == CANCELLED) == (written == CANCELLED) == marked
