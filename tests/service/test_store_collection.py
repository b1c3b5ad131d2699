"""History, what is collected of it, and signs of life, on both databases (storage-leasing.md §6)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from koukan.blob.bodies import BytesBody
from koukan.errors import BodyAborted
from koukan.storage.sql_store import SqlStore
from tests.support.stores import DELIVERED, SUCCESS, count, delivered, opened, sql, transaction


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    async with opened(database_url) as store:
        yield store


async def test_history_is_written_behind_and_at_the_end(database_url: str) -> None:
    async with opened(database_url) as store:
        for n in range(500):
            store.record(transaction(f"h{n}", final_reason=SUCCESS, body=None, responses=DELIVERED, attempts=1))
        assert await store.load("h0") is None
    async with opened(database_url) as store:
        found = await store.load("h499")
        assert found is not None and found.final_reason == SUCCESS and found.responses == DELIVERED
        assert await count(store, "transactions") == 500
        assert await store.claim(10) == []


async def test_the_collection_deletes_what_is_over_or_was_never_completed(store: SqlStore) -> None:
    await store.keep(
        [
            transaction("final", leased=True, attempts=1),
            transaction("upload", body=None),
            transaction("leased", body=None, leased=True, attempts=1),
            transaction("waiting", due_in=3600),
            transaction("held", due_in=3600),
        ]
    )
    await store.finish_attempt(delivered("final"))
    await sql(
        store, "UPDATE queue SET held = 'by hand' WHERE tx_id = (SELECT id FROM transactions WHERE rest_id = 'held')"
    )
    assert await store.collect(3600, 100) == 0
    await sql(store, "UPDATE transactions SET updated = updated - 7200")
    assert await store.collect(3600, 1) == 1
    assert await store.collect(3600, 100) == 1
    assert await store.collect(3600, 100) == 0
    left = {row["rest_id"] for row in await sql(store, "SELECT rest_id FROM transactions")}
    assert left == {"leased", "waiting", "held"}
    assert await count(store, "attempts") == 0
    assert await count(store, "blobs") == await count(store, "blob_refs") == 3


async def test_a_shared_body_lives_as_long_as_somebody_refers_to_it(store: SqlStore) -> None:
    large = BytesBody(bytes(200_000))
    await store.keep([transaction(tx_id, body=large, leased=True, attempts=1) for tx_id in "ab"])
    for tx_id, left in (("a", 1), ("b", 0)):
        await store.finish_attempt(delivered(tx_id))
        await sql(store, "UPDATE transactions SET updated = updated - 7200 WHERE rest_id = $1", tx_id)
        assert await store.collect(3600, 100) == 1
        assert await count(store, "blobs") == left
        assert (await count(store, "blob_chunks") > 0) == bool(left)
    assert await store.find_blob("a", "body", "submission") is None


async def test_a_staged_body_that_nobody_came_for_is_collected(store: SqlStore) -> None:
    await store._intake._stager.store(42, BytesBody(bytes(300_000)))
    assert await store.collect(0, 100) == 0 and await count(store, "blobs") == 1
    await sql(store, "UPDATE blobs SET updated = updated - 7200")
    await store.collect(0, 100)
    assert await count(store, "blobs") == 0 and await count(store, "blob_chunks") == 0


async def test_a_body_that_is_deleted_while_it_is_read_is_never_cut_short(store: SqlStore) -> None:
    await store.keep([transaction("a", body=BytesBody(bytes(2_000_000)), leased=True, attempts=1)])
    found = await store.load("a")
    assert found is not None
    chunks = store.read_body(found).chunks()
    await anext(chunks)
    await sql(store, "DELETE FROM blob_refs")
    await sql(store, "DELETE FROM blobs")
    with pytest.raises(BodyAborted, match="has been deleted"):
        while True:
            await anext(chunks)


async def test_signs_of_life_and_the_state_of_the_queue(store: SqlStore) -> None:
    await store.ping()
    stats = await store.stats()
    assert stats == (0, 0.0, 1)
    await store.keep([transaction("a", due_in=-50), transaction("b", due_in=3600), transaction("c", body=None)])
    stats = await store.stats()
    assert stats.depth == 3 and 49 < stats.oldest_due_age < 60
