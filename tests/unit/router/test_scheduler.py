"""The scheduler: mail that cannot be attempted stays in the queue with the reason, and takes nobody else down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from koukan.blob.spool import SpooledBody
from koukan.chain.engine import Chain
from koukan.config.router import GlobalConfig, RouterConfig
from koukan.errors import StoreError
from koukan.model import Body, Mailbox, Sender
from koukan.router.dispatcher import Dispatcher
from koukan.router.notification import Notifier
from koukan.router.roles import Roles
from koukan.router.scheduler import PUT_BACK_FOR, Scheduler
from koukan.router.work import Ledger
from koukan.storage.store import BODY, AttemptEnd, BlobState, Envelope, Responses, Store, StoredTransaction
from tests.support.chains import RecordingSink
from tests.support.house import eventually


class Queue:
    """The part of a store that a scheduler uses: what is claimed once, what is written back."""

    def __init__(self, *due: StoredTransaction) -> None:
        self.due = list(due)
        self.ends: list[AttemptEnd] = []
        self.claims = 0
        self.down = 0
        self.written = asyncio.Event()
        self.fenced = False

    async def claim(self, limit: int, running: Mapping[str, int]) -> list[StoredTransaction]:
        self.claims += 1
        claimed, self.due = self.due[:limit], self.due[limit:]
        return claimed

    def read_body(self, tx: StoredTransaction, blob: str = BODY) -> Body:
        raise KeyError(blob)  # a row as nobody writes it

    async def finish_attempt(self, end: AttemptEnd) -> str | None:
        if self.down:
            self.down -= 1
            raise StoreError("down")
        self.ends.append(end)
        self.written.set()
        return end.final_reason


def queued(sender: str, tx_id: str = "1-queued") -> StoredTransaction:
    return StoredTransaction(
        id=tx_id,
        envelope=Envelope(Sender(sender), Mailbox("ann@example.net"), (Mailbox("bob@example.com"),)),
        blobs={"body": BlobState(3, 3)},
        blob_ids={},
        spec=None,
        retry=True,
        notification=True,
        destination="example.com",
        attempts=2,
        responses=Responses(),
        final_reason=None,
        cancelled=False,
        version=7,
        age=10,
        lease_uri=None,
        leased_here=True,
        held=None,
    )


def make(queue: Queue) -> tuple[Scheduler, Dispatcher]:
    store = cast("Store", queue)
    ledger = Ledger(store, Notifier(GlobalConfig(), lambda: "1-bounce"))
    dispatcher = Dispatcher(store, ledger, cache_ttl=5)
    config = RouterConfig.model_validate(
        {
            "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
            "storage": {"url": "sqlite:///none"},
            "sender": [{"name": "known", "output_chain": "deliver"}],
            "endpoint": [{"name": "deliver", "chain": [{"filter": "rest_output"}]}],
        }
    )
    dispatcher.bind(Roles(config, {"deliver": Chain(config.endpoint[0], [], RecordingSink())}))
    return Scheduler(store, ledger, dispatcher, gc_interval=None, gc_ttl=1), dispatcher


@pytest.mark.parametrize(
    ("sender", "reason"),
    [("gone", "sender gone is not in the configuration"), ("known", "internal error at the start of the attempt")],
)
async def test_what_cannot_be_attempted_goes_back_with_the_reason(sender: str, reason: str) -> None:
    queue = Queue(queued(sender))
    scheduler, dispatcher = make(queue)
    running = asyncio.ensure_future(scheduler.run())
    async with asyncio.timeout(5):
        await queue.written.wait()
    [end] = queue.ends
    assert end.attempt == 2 and end.final_reason is None and end.retry_in == PUT_BACK_FOR and end.version == 8
    assert not end.tried
    assert end.responses.mail is not None and end.responses.mail.code == 451 and reason in end.responses.mail.message
    assert not running.done() and not dispatcher.busy
    running.cancel()


async def test_the_reason_is_written_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koukan.router.work._WRITE_RETRY", 0.01)
    queue = Queue(queued("gone"))
    queue.down = 2
    scheduler, _ = make(queue)
    running = asyncio.ensure_future(scheduler.run())
    async with asyncio.timeout(5):
        await queue.written.wait()
    assert not running.done()
    running.cancel()


async def test_a_draining_process_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koukan.router.scheduler.IDLE_POLL", 0.001)
    queue = Queue()
    scheduler, dispatcher = make(queue)
    await dispatcher.finish(0)
    running = asyncio.ensure_future(scheduler.run())
    for _ in range(20):
        dispatcher.queued.set()
        await asyncio.sleep(0.001)
    assert queue.claims == 0
    running.cancel()


class Hanging(Queue):
    """Bodies of this queue are never read to their end."""

    def __init__(self, *due: StoredTransaction) -> None:
        super().__init__(*due)
        self.running: list[dict[str, int]] = []

    async def claim(self, limit: int, running: Mapping[str, int]) -> list[StoredTransaction]:
        self.running.append(dict(running))
        return await super().claim(limit, running)

    def read_body(self, tx: StoredTransaction, blob: str = BODY) -> Body:
        return SpooledBody()


async def test_what_is_running_is_told_to_the_queue_by_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koukan.router.scheduler.IDLE_POLL", 0.001)
    queue = Hanging(queued("known", "1-a"), queued("known", "1-b"))
    scheduler, dispatcher = make(queue)
    running = asyncio.ensure_future(scheduler.run())
    await eventually(lambda: queue.running[-1:] == [{"example.com": 2}])
    dispatcher.revoke("1-a")
    dispatcher.revoke("1-b")
    await eventually(lambda: queue.running[-1] == {})
    running.cancel()
