"""Cancels over HTTP that meet a claim, an answer or a delivery: what is answered 200 holds, and what is read is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from koukan.errors import StoreError
from koukan.storage.sql_store import SqlStore
from koukan.storage.store import CANCELLED, AttemptEnd, StoredTransaction
from tests.support.house import House, becomes, eventually, quick_end
from tests.support.smtp_dialogue import message
from tests.support.stores import opened, sql
from tests.support.wire import Peer, Reply, View, body_uri, request

MESSAGE = message("cancel me")


def patient(document: dict[str, Any]) -> None:
    """Retries come when the test says so."""
    quick_end(document)
    if "endpoint" in document:
        params = document["endpoint"][2]["output_handler"]["retry_params"]
        params.update(min_attempt_time=3600, max_attempt_time=3600)


@pytest.fixture
async def house(tmp_path: Path, postgres_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, postgres_url, patient, quick_end) as house:
        yield house


@pytest.fixture
def peer(house: House) -> Peer:
    return Peer(house.rest)


async def create(peer: Peer, rcpt: str) -> str:
    document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": rcpt}]}
    location, created = await peer.create("submission", document)
    assert (await peer.put(body_uri(created), MESSAGE)).status == 200
    return location


async def read(location: str) -> Any:
    return (await request("GET", location)).json


async def cancel(location: str) -> Reply:
    return await request("POST", f"{location}/cancel", b"")


async def queued(house: House, peer: Peer) -> str:
    """A transaction that has failed once and waits, in the database only."""
    location = await create(peer, "rcpttemp@example.com")
    tx_id = location.rpartition("/")[2]
    await becomes(lambda: has(location, "rcpt_response"))
    await eventually(lambda: tx_id not in house.router.dispatcher.deliveries)
    return location


async def has(location: str, name: str) -> bool:
    return name in await read(location)


def after_load(house: House, act: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something right after the next look at a row, as another process might."""
    store = house.router.store
    load, done = store.load, False

    async def load_then_act(tx_id: str) -> StoredTransaction | None:
        nonlocal done
        found = await load(tx_id)
        if not done:
            done = True
            await act()
        return found

    monkeypatch.setattr(store, "load", load_then_act)


async def test_a_cancel_that_meets_the_claim_of_another_process_is_sent_there(
    house: House, peer: Peer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = await queued(house, peer)
    async with opened(postgres_url, "http://router-2:8000") as other:

        async def claim() -> None:
            await make_due(other)
            assert len(await other.claim(1)) == 1

        house.router.dispatcher.draining = True  # the other one claims it
        after_load(house, claim, monkeypatch)
        reply = await cancel(location)
        assert (reply.status, reply.headers["location"]) == (
            308,
            f"http://router-2:8000/transactions/{location.rpartition('/')[2]}/cancel",
        )


async def is_empty(store: SqlStore) -> bool:
    return (await store.stats()).depth == 0


async def make_due(store: SqlStore) -> None:
    await sql(store, "UPDATE queue SET due_at = {now} - 1")


async def test_a_cancel_that_meets_our_own_claim_stops_that_attempt(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = await queued(house, peer)
    house.sink.fail("rcpttemp", "silence")
    store, tx_id = house.router.store, location.rpartition("/")[2]

    async def claim() -> None:
        await make_due(store)
        house.router.dispatcher.queued.set()
        await eventually(lambda: tx_id in house.router.dispatcher.deliveries)

    after_load(house, claim, monkeypatch)
    assert (await cancel(location)).status == 200
    await becomes(lambda: has(location, "final_attempt_reason"))
    document = await read(location)
    assert document["cancelled"] is True and document["final_attempt_reason"] == CANCELLED
    await becomes(lambda: is_empty(store))
    assert not house.sink.received


async def test_a_cancel_between_our_claim_and_the_start_of_the_attempt(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = await queued(house, peer)
    store, claimed, go = house.router.store, asyncio.Event(), asyncio.Event()
    claim = store.claim

    async def claim_slowly(limit: int, running: Any = None) -> list[StoredTransaction]:
        found = await claim(limit, running)
        if found:
            claimed.set()
            await go.wait()
        return found

    monkeypatch.setattr(store, "claim", claim_slowly)
    house.sink.take("rcpttemp")  # it would be delivered now
    await make_due(store)
    house.router.dispatcher.queued.set()
    await asyncio.wait_for(claimed.wait(), 20)
    assert (await cancel(location)).status == 200
    go.set()
    await becomes(lambda: has(location, "final_attempt_reason"))
    assert (await read(location))["final_attempt_reason"] == CANCELLED
    await becomes(lambda: is_empty(store))
    assert not house.sink.received


def hold_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Outcomes are written when the event is set."""
    store, go = house.router.store, asyncio.Event()
    finish = store.finish_attempt

    async def finish_later(end: AttemptEnd) -> str | None:
        await go.wait()
        return await finish(end)

    monkeypatch.setattr(store, "finish_attempt", finish_later)
    return go


async def test_a_client_that_reads_a_temporary_answer_and_cancels_at_once(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold_ends(house, monkeypatch)
    location = await create(peer, "rcpttemp@example.com")
    await becomes(lambda: has(location, "rcpt_response"))
    assert (await cancel(location)).status == 200
    go.set()
    await becomes(lambda: has(location, "final_attempt_reason"))
    document = await read(location)
    assert document["cancelled"] is True and document["final_attempt_reason"] == CANCELLED
    await becomes(lambda: is_empty(house.router.store))


async def test_a_cancel_after_the_delivery_is_200_and_changes_nothing(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold_ends(house, monkeypatch)
    location = await create(peer, "bob@example.com")
    await becomes(lambda: has(location, "data_response"))
    assert (await cancel(location)).status == 200
    go.set()
    await becomes(lambda: has(location, "final_attempt_reason"))
    assert (await cancel(location)).status == 200
    tx_id = location.rpartition("/")[2]
    await eventually(lambda: tx_id not in house.router.dispatcher.deliveries)
    peer.views[f"/transactions/{tx_id}"] = View({})
    document = (await peer.get(location)).json
    assert document["final_attempt_reason"] == "upstream response success" and "cancelled" not in document
    assert len(house.sink.received) == 1


async def test_what_was_cancelled_before_the_death_of_the_router_stays_so(
    house: House, peer: Peer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_ends(house, monkeypatch)
    location = await create(peer, "rcpttemp@example.com")
    await becomes(lambda: has(location, "rcpt_response"))
    assert (await cancel(location)).status == 200
    async with opened(postgres_url, house.rest) as successor:  # the process is gone, and this one stands in its place
        await successor.succeed()
        assert await successor.claim(10) == []
        found = await successor.load(location.rpartition("/")[2])
        assert found is not None and found.cancelled and found.final_reason == CANCELLED


async def test_without_a_database_a_cancel_of_a_row_is_not_answered_200(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = await create(peer, "rcpttimeout@example.com")

    async def away(tx_id: str) -> bool:
        raise StoreError("the database is away")

    monkeypatch.setattr(house.router.store, "cancel_leased", away)
    assert (await cancel(location)).status == 503
    monkeypatch.undo()
    assert (await cancel(location)).status == 200
    await becomes(lambda: has(location, "final_attempt_reason"))
    assert (await read(location))["cancelled"] is True
