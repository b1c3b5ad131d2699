"""What the store keeps, hands out and takes back, on both databases (storage-leasing.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody, ConcatBody
from koukan.blob.spool import SpooledBody
from koukan.errors import BodyAborted, StaleAttempt, StoreError
from koukan.model import EsmtpParam, HostPort, Mailbox, Response, Sender, SmtpMeta
from koukan.storage.database import Connection, Rejected
from koukan.storage.sql_store import SqlStore
from koukan.storage.store import CANCELLED, AttemptEnd, BlobState, Envelope, Responses
from tests.support.stores import (
    BODY,
    DEFERRED,
    DELIVERED,
    SUCCESS,
    count,
    deferred,
    delivered,
    opened,
    sql,
    transaction,
)

EVERY_BYTE = bytes(range(256)) * 3 + b"\r\n.\r\n"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    async with opened(database_url) as store:
        yield store


class Counter:
    """Counts the database transactions of a store."""

    def __init__(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = 0
        self._transaction = store._database.transaction
        monkeypatch.setattr(store._database, "transaction", self._counted)

    async def _counted(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        self.commits += 1
        return await self._transaction(work)


# --- keep and load ----------------------------------------------------------------------------------------------------------


async def test_everything_of_a_transaction_is_read_as_it_was_kept(store: SqlStore) -> None:
    envelope = Envelope(
        sender=Sender("submission", "smtp-msa"),
        mail_from=Mailbox("ann@example.net", (EsmtpParam("SIZE", "500"), EsmtpParam("SMTPUTF8"))),
        rcpt_to=(Mailbox("jürgen@exämple.com", (EsmtpParam("NOTIFY", "NEVER"),)),),
        remote_host=HostPort("2001:db8::9", 53006),
        local_host=HostPort("198.51.100.1", 587),
        smtp_meta=SmtpMeta("client.example", True, False, None, {"later": [1, {"x": None}]}),
    )
    await store.keep(
        [
            transaction(
                "a",
                envelope=envelope,
                retry=True,
                notification=True,
                attempts=1,
                responses=Responses(Response(250, "ok"), (Response(451, "line one\nline two"),)),
                version=7,
            )
        ]
    )
    found = await store.load("a")
    assert found is not None
    assert found.envelope == envelope
    assert found.blobs == {"body": BlobState(len(BODY), len(BODY))} and found.input_done
    assert found.retry and found.notification and found.destination == "example.com"
    assert found.attempts == 1 and found.version == 7
    assert found.responses == Responses(Response(250, "ok"), (Response(451, "line one\nline two"),))
    assert found.final_reason is None and not found.cancelled and found.held is None
    assert found.lease_uri is None and not found.leased_here
    assert 0 <= found.age < 60
    assert await store.load("b") is None


async def test_a_lone_surrogate_in_an_answer_does_not_cost_the_transaction(store: SqlStore) -> None:
    answer = Response(550, "no such user \udce9")
    await store.keep([transaction("a", responses=Responses(answer), attempts=1)])
    found = await store.load("a")
    assert found is not None and found.responses.mail is not None
    assert found.responses.mail.message.startswith("no such user ")


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3 * 1024 * 1024 + 17])
async def test_bodies_of_every_size_come_back_byte_by_byte(store: SqlStore, size: int) -> None:
    content = (EVERY_BYTE * (size // len(EVERY_BYTE) + 1))[:size]
    await store.keep([transaction("a", body=BytesBody(content))])
    found = await store.load("a")
    assert found is not None
    body = store.read_body(found)
    assert body.length == size and body.complete
    assert await body.read() == content
    for start in {0, 1, size // 2, size}:
        assert b"".join([chunk async for chunk in body.chunks(start)]) == content[start:]
    assert max([len(chunk) async for chunk in body.chunks()], default=0) <= 256 * 1024
    assert (await sql(store, "SELECT count(*) AS n FROM blobs WHERE staged"))[0]["n"] == 0


async def test_one_body_of_many_recipients_is_stored_once(store: SqlStore) -> None:
    spool = SpooledBody(memory_limit=1000)
    spool.append(EVERY_BYTE * 200)
    spool.finish()
    for body in (BytesBody(EVERY_BYTE), spool):
        rows = [transaction(f"{id(body)}-{n}", body=body, rcpt=f"r{n}@example.com") for n in range(10)]
        before = await count(store, "blobs")
        await store.keep(rows)
        assert await count(store, "blobs") == before + 1
        for row in rows:
            found = await store.load(row.id)
            assert found is not None and await store.read_body(found).read() == await body.read()
    spool.close()


async def test_a_stored_body_is_shared_and_not_copied(store: SqlStore) -> None:
    await store.keep([transaction("a")])
    ref = await store.find_blob("a", "body", "submission")
    assert ref is not None and ref.length == len(BODY)
    await store.keep([transaction("b", body=ref), transaction("c", body=store.read_blob(ref))])
    assert await count(store, "blobs") == 1
    for tx_id in "bc":
        found = await store.load(tx_id)
        assert found is not None and await store.read_body(found).read() == BODY


async def test_headers_in_front_of_a_stored_body_make_a_body_of_its_own(store: SqlStore) -> None:
    await store.keep([transaction("a")])
    ref = await store.find_blob("a", "body", "submission")
    assert ref is not None
    await store.keep([transaction("b", body=ConcatBody.prepend(b"Received: x\r\n", store.read_blob(ref)))])
    found = await store.load("b")
    assert found is not None and await store.read_body(found).read() == b"Received: x\r\n" + BODY


async def test_keep_is_all_or_nothing(store: SqlStore) -> None:
    await store.keep([transaction("a")])
    with pytest.raises(Rejected):
        await store.keep([transaction("b"), transaction("a")])
    assert await store.load("b") is None
    assert await count(store, "transactions") == 1 and await count(store, "queue") == 1
    await store.keep([transaction("b")])


async def test_a_body_that_breaks_off_keeps_nothing(store: SqlStore) -> None:
    spool = SpooledBody()
    spool.append(BODY)
    spool.abort("the client went away")
    with pytest.raises(BodyAborted):
        await store.keep([transaction("a"), transaction("b", body=spool)])
    assert await count(store, "transactions") == 0


async def test_a_transaction_that_the_database_refuses_does_not_spoil_the_others(store: SqlStore) -> None:
    await store.keep([transaction("known")])
    results = await asyncio.gather(
        *(store.keep([transaction("known" if n == 13 else f"t{n}")]) for n in range(20)), return_exceptions=True
    )
    assert [n for n, result in enumerate(results) if result is not None] == [13]
    assert isinstance(results[13], StoreError)
    assert await count(store, "transactions") == 20


async def test_writers_that_come_together_share_commits(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(store, monkeypatch)
    await asyncio.gather(*(store.keep([transaction(f"t{n}", leased=True, attempts=1)]) for n in range(50)))
    assert counter.commits <= 5
    assert await count(store, "transactions") == 50
    before = counter.commits
    await asyncio.gather(*(store.finish_attempt(delivered(f"t{n}")) for n in range(50)))
    assert counter.commits - before <= 5
    assert await count(store, "queue") == 0


async def test_whoever_is_cancelled_while_it_waits_leaves_nothing_leased_for_ever(store: SqlStore) -> None:
    keeping = asyncio.ensure_future(store.keep([transaction("a", leased=True, attempts=1)]))
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await store.keep([transaction("b")])  # commits come one after the other: "a" is written by now
    await store._leases.release_strays()
    assert {claimed.id for claimed in await store.claim(10)} == {"a", "b"}


# --- the queue --------------------------------------------------------------------------------------------------------------


async def test_due_work_is_claimed_in_batches_the_longest_due_first(store: SqlStore) -> None:
    await store.keep([transaction(f"t{n}", due_in=-n) for n in range(10)])
    await store.keep([transaction("later", due_in=3600)])
    first = await store.claim(4)
    assert [claimed.id for claimed in first] == ["t9", "t8", "t7", "t6"]
    assert all(claimed.leased_here and claimed.attempts == 1 for claimed in first)
    assert [claimed.id for claimed in await store.claim(100)] == ["t5", "t4", "t3", "t2", "t1", "t0"]
    assert await store.claim(100) == []


async def test_one_busy_destination_does_not_take_the_whole_batch(store: SqlStore) -> None:
    await store.keep([transaction(f"big{n}", due_in=-100, rcpt="x@big.example") for n in range(20)])
    await store.keep([transaction(f"small{n}", due_in=-1, rcpt=f"x@s{n}.example") for n in range(5)])
    claimed = [found.id for found in await store.claim(10)]
    assert len(claimed) == 10
    assert sum(name.startswith("small") for name in claimed) == 5
    # alone it may have everything
    assert len(await store.claim(10)) == 10


async def test_claims_at_the_same_time_share_nothing(store: SqlStore) -> None:
    await store.keep([transaction(f"t{n}") for n in range(60)])
    batches = await asyncio.gather(*(store.claim(10) for _ in range(8)))
    claimed = [found.id for batch in batches for found in batch]
    assert len(claimed) == len(set(claimed)) == 60


async def test_a_leased_transaction_is_nobody_elses(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1)])
    assert await store.claim(10) == []
    found = await store.load("a")
    assert found is not None and found.leased_here and found.lease_uri == "http://router-1:8000" and found.attempts == 1
    assert not await store.cancel("a")


async def test_a_delivered_transaction_leaves_the_queue_with_its_answers(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1)])
    await store.finish_attempt(delivered("a", version=9))
    found = await store.load("a")
    assert found is not None and found.final_reason == SUCCESS and found.responses == DELIVERED
    assert found.lease_uri is None and found.version == 9
    assert await count(store, "queue") == 0 and await count(store, "attempts") == 1
    assert await store.claim(10) == []


async def test_a_deferred_transaction_is_due_again_after_its_delay(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1), transaction("b", leased=True, attempts=1)])
    await store.finish_attempt(deferred("a", retry_in=3600))
    await store.finish_attempt(deferred("b", retry_in=0))
    claimed = await store.claim(10)
    assert [(found.id, found.attempts) for found in claimed] == [("b", 2)]
    assert claimed[0].responses == DEFERRED
    [row] = await sql(store, "SELECT due_at - {now} AS left_ FROM queue WHERE session_id IS NULL")
    assert 3500 < row["left_"] <= 3600
    found = await store.load("a")
    assert found is not None and found.attempts == 1 and found.final_reason is None and found.lease_uri is None


async def test_versions_of_a_transaction_only_grow(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1, version=3)])
    await store.finish_attempt(deferred("a", retry_in=0, version=5))
    found = await store.load("a")
    assert found is not None and found.version == 5
    await store.claim(1)
    await store.finish_attempt(delivered("a", 2, version=2))
    found = await store.load("a")
    assert found is not None and found.version == 6


async def test_a_bounce_is_written_with_the_outcome_or_not_at_all(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1), transaction("taken", leased=True, attempts=1)])
    await store.finish_attempt(delivered("a", bounce=transaction("a-bounce", rcpt="ann@example.net")))
    assert [found.id for found in await store.claim(10)] == ["a-bounce"]
    with pytest.raises(StoreError):
        await store.finish_attempt(delivered("taken", bounce=transaction("a-bounce")))
    found = await store.load("taken")
    assert found is not None and found.final_reason is None and found.leased_here


@pytest.mark.parametrize("end", [delivered("a", 1), deferred("a", 1)])
async def test_an_attempt_that_is_written_twice_counts_once(store: SqlStore, end: AttemptEnd) -> None:
    """The answer to a commit may get lost; whoever tries again must not undo what has happened since."""
    await store.keep([transaction("a", leased=True, attempts=1)])
    await store.finish_attempt(deferred("a", 1, retry_in=0))
    [claimed] = await store.claim(1)
    assert claimed.attempts == 2
    await store.finish_attempt(replace(end, bounce=transaction("bounce")))
    found = await store.load("a")
    assert found is not None and found.final_reason is None and found.attempts == 2 and found.leased_here
    assert await store.load("bounce") is None
    await store._leases.release_strays()
    await store.finish_attempt(delivered("a", 2))
    found = await store.load("a")
    assert found is not None and found.final_reason == SUCCESS


async def test_an_attempt_that_was_never_opened_is_refused(store: SqlStore) -> None:
    await store.keep([transaction("a", leased=True, attempts=1)])
    with pytest.raises(StaleAttempt):
        await store.finish_attempt(delivered("a", 2, bounce=transaction("bounce")))
    assert await store.load("bounce") is None
    await store.finish_attempt(delivered("a", 1))


async def test_what_was_never_ours_cannot_be_finished(store: SqlStore) -> None:
    await store.keep([transaction("a")])
    for tx_id in ("a", "unknown"):
        with pytest.raises(StaleAttempt):
            await store.finish_attempt(delivered(tx_id, 0))


async def test_cancelling_ends_what_nobody_works_on(store: SqlStore) -> None:
    await store.keep([transaction("a", due_in=3600), transaction("upload", body=None)])
    for tx_id in ("a", "upload"):
        assert await store.cancel(tx_id)
        found = await store.load(tx_id)
        assert found is not None and found.cancelled and found.final_reason == CANCELLED and found.version == 2
        assert not await store.cancel(tx_id)
    assert not await store.cancel("unknown")
    assert await store.claim(10) == [] and await count(store, "queue") == 0


async def test_what_cannot_be_read_is_held_and_does_not_block_the_others(
    store: SqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.keep([transaction("bad", due_in=-10), transaction("good")])
    await sql(store, "UPDATE transactions SET envelope = '{{}}' WHERE rest_id = 'bad'")
    assert [found.id for found in await store.claim(10)] == ["good"]
    assert "bad: cannot be read" in caplog.text
    [row] = await sql(store, "SELECT held, session_id FROM queue WHERE held IS NOT NULL")
    assert row["held"].startswith("quarantined") and row["session_id"] is None
    assert await store.claim(10) == []
