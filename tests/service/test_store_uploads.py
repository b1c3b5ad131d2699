"""Uploads into stored blobs, blobs of builder specs and their reuse, on both databases (rest-api.md §6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from koukan.blob.bodies import BytesBody
from koukan.errors import StoreError
from koukan.storage.sql_store import SqlStore
from koukan.storage.store import BlobState
from tests.support.stores import deferred, opened, sql, transaction

LARGE = bytes(range(256)) * 4096  # a megabyte: not in the shared commit


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    async with opened(database_url) as store:
        yield store


async def content(store: SqlStore, tx_id: str, blob: str = "body") -> bytes:
    found = await store.load(tx_id)
    assert found is not None and found.blobs[blob].complete
    return await store.read_body(found, blob).read()


async def test_the_last_byte_makes_a_transaction_due(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None)])
    found = await store.load("a")
    assert found is not None and found.blobs == {"body": BlobState(0, None)} and not found.input_done
    assert await store.append("a", "body", 0, b"one ", None) == BlobState(4, None)
    assert await store.append("a", "body", 4, b"two ", 13) == BlobState(8, 13)
    assert await store.claim(10) == []
    before = await store.load("a")
    assert await store.append("a", "body", 8, b"three", 13) == BlobState(13, 13)
    [claimed] = await store.claim(10)
    assert claimed.id == "a" and claimed.input_done
    assert before is not None and claimed.version > before.version
    assert await content(store, "a") == b"one two three"


async def test_an_empty_last_append_completes_what_is_there(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None), transaction("empty", body=None)])
    await store.append("a", "body", 0, b"all of it", None)
    assert await store.append("a", "body", 9, b"", 9) == BlobState(9, 9)
    assert await store.append("empty", "body", 0, b"", 0) == BlobState(0, 0)
    assert {claimed.id for claimed in await store.claim(10)} == {"a", "empty"}
    assert await content(store, "empty") == b""


@pytest.mark.parametrize(
    ("offset", "data", "length", "state", "kept"),
    [
        (0, b"01234", None, BlobState(5, None), b"01234"),  # what is there already
        (3, b"34567", None, BlobState(8, None), b"01234567"),  # overlaps at its beginning
        (0, b"0123456789", 10, BlobState(10, 10), b"0123456789"),  # all of it again, and the rest
        (6, b"6789", 10, BlobState(5, None), b"01234"),  # a gap
        (5, b"567", 6, BlobState(5, None), b"01234"),  # more than its own total
        (0, b"012", 3, BlobState(5, None), b"01234"),  # less than what is there
    ],
)
async def test_overlaps_are_skipped_and_gaps_refused(
    store: SqlStore, offset: int, data: bytes, length: int | None, state: BlobState, kept: bytes
) -> None:
    await store.keep([transaction("a", body=None)])
    await store.append("a", "body", 0, b"01234", None)
    assert await store.append("a", "body", offset, data, length) == state
    rows = await sql(store, "SELECT data FROM blob_chunks ORDER BY start")
    assert b"".join(bytes(row["data"]) for row in rows) == kept


@pytest.mark.parametrize("length", [None, 11, 9])
async def test_a_total_that_was_declared_stays(store: SqlStore, length: int | None) -> None:
    await store.keep([transaction("a", body=None)])
    await store.append("a", "body", 0, b"01234", 10)
    assert await store.append("a", "body", 5, b"5678", length) == BlobState(5, 10)
    assert await store.append("a", "body", 5, b"56789", 10) == BlobState(10, 10)
    assert await store.append("a", "body", 10, b"more", length) == BlobState(10, 10)
    assert await content(store, "a") == b"0123456789"


async def test_large_uploads_and_many_small_ones_are_read_back_byte_by_byte(store: SqlStore) -> None:
    await store.keep([transaction("large", body=None), transaction("small", body=None)])
    await store.append("large", "body", 0, LARGE, None)
    await store.append("large", "body", len(LARGE), LARGE, 2 * len(LARGE))
    for offset in range(0, 10_000, 100):
        await store.append("small", "body", offset, LARGE[offset : offset + 100], 10_000)
    assert await content(store, "large") == LARGE + LARGE
    assert await content(store, "small") == LARGE[:10_000]


async def test_two_uploads_of_the_same_bytes_at_once_store_them_once(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None)])
    pieces = [(offset, LARGE[offset : offset + 1000]) for offset in range(0, 50_000, 1000)]

    async def upload() -> None:
        for offset, data in pieces:
            await store.append("a", "body", offset, data, 50_000)

    await asyncio.gather(upload(), upload(), upload())
    assert await content(store, "a") == LARGE[:50_000]
    assert len(await store.claim(10)) == 1


async def test_a_blob_that_does_not_exist_is_an_error_for_its_upload_only(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None)])
    results = await asyncio.gather(
        store.append("a", "nothing", 0, b"x", None),
        store.append("a", "body", 0, b"x", None),
        store.append("b", "body", 0, b"x", None),
        return_exceptions=True,
    )
    assert isinstance(results[0], StoreError) and isinstance(results[2], StoreError)
    assert results[1] == BlobState(1, None)


async def test_a_transaction_that_somebody_works_on_gets_due_when_he_gives_it_back(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None, leased=True, attempts=1)])
    await store.append("a", "body", 0, b"half", None)
    await store.finish_attempt(deferred("a", retry_in=0))
    assert await store.claim(10) == []  # still waits for its bytes
    await store.append("a", "body", 4, b"", 4)
    assert [claimed.attempts for claimed in await store.claim(10)] == [2]


async def test_a_transaction_that_is_completed_while_leased_keeps_its_holder(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None, leased=True, attempts=1)])
    await store.append("a", "body", 0, b"all", 3)
    assert await store.claim(10) == []
    await store.finish_attempt(deferred("a", retry_in=0))
    assert [claimed.attempts for claimed in await store.claim(10)] == [2]


async def test_an_upload_counts_as_activity(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None)])
    await sql(store, "UPDATE transactions SET updated = updated - 7200")
    await store.append("a", "body", 0, b"x", None)
    assert await store.collect(3600, 10) == 0
    assert await store.load("a") is not None


async def test_a_spec_waits_for_each_of_its_blobs(store: SqlStore) -> None:
    spec = {"headers": [], "text_body": [{"content": {"create_id": "text"}}]}
    blobs = {"text": None, "inline0": BytesBody(b"inline"), "pic": None}
    await store.keep([transaction("a", body=None, spec=spec, blobs=blobs)])
    found = await store.load("a")
    assert found is not None and found.spec == spec and "body" not in found.blobs
    assert found.blobs == {"text": BlobState(0, None), "inline0": BlobState(6, 6), "pic": BlobState(0, None)}
    await store.append("a", "text", 0, b"text", 4)
    assert await store.claim(10) == []
    await asyncio.gather(store.append("a", "pic", 0, b"pic", 3), store.append("a", "text", 0, b"text", 4))
    [claimed] = await store.claim(10)
    assert claimed.input_done
    assert [await content(store, "a", name) for name in ("text", "inline0", "pic")] == [b"text", b"inline", b"pic"]


async def test_a_spec_without_blobs_is_complete(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None, spec={"headers": []})])
    [claimed] = await store.claim(10)
    assert claimed.input_done and claimed.spec == {"headers": []} and claimed.blobs == {}


async def test_only_complete_blobs_are_found_for_reuse(store: SqlStore) -> None:
    await store.keep([transaction("a", body=None)])
    await store.append("a", "body", 0, b"half", 8)
    for tx_id, blob in (("a", "body"), ("a", "pic"), ("unknown", "body")):
        assert await store.find_blob(tx_id, blob, "submission") is None
    await store.append("a", "body", 4, b"half", 8)
    ref = await store.find_blob("a", "body", "submission")
    assert ref is not None and ref.length == 8
    await store.keep([transaction("b", body=None, spec={}, blobs={"pic": ref})])
    assert await content(store, "b", "pic") == b"halfhalf"


@pytest.mark.parametrize("name", ["with space", "ä/ö", "\x00", "'; DROP TABLE blobs; --"])
async def test_strange_names_find_nothing_and_break_nothing(store: SqlStore, name: str) -> None:
    assert await store.load(name) is None
    assert await store.find_blob(name, name, "submission") is None
    assert not await store.cancel(name)
    with pytest.raises(StoreError):
        await store.append(name, name, 0, b"x", None)
    await store.ping()


async def test_every_blob_that_becomes_complete_is_a_new_version(store: SqlStore) -> None:
    """Its client polls with the version that it knows, and shows what is complete."""
    await store.keep([transaction("a", spec={"text": 1}, blobs={"one": None, "two": None})])
    versions = []
    for name, data, length in [("one", b"1", 2), ("one", b"11", 2), ("two", b"2", 1)]:
        await store.append("a", name, len(data) - 1, data[-1:], length)
        found = await store.load("a")
        assert found is not None
        versions.append(found.version)
    assert versions[0] < versions[1] < versions[2]
