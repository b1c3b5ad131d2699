"""The dispatcher: attempts that end in every way give their lease back, and a cancel holds whatever is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from koukan.blob.bodies import BytesBody
from koukan.chain.engine import Chain
from koukan.chain.transaction import Transaction
from koukan.config.router import GlobalConfig, RouterConfig
from koukan.model import BODY_ABORTED, Mailbox, Response, Sender, Step, StepResult, Upstream
from koukan.rest.resource import Resource
from koukan.router.dispatcher import Delivery, Dispatcher, ExploderChild
from koukan.router.exploder import Kept
from koukan.router.notification import Notifier
from koukan.router.outcome import CANCELLED, MAX_ATTEMPTS, SUCCESS
from koukan.router.roles import Role, Roles
from koukan.router.work import Ledger, Work
from koukan.storage.database import Rejected
from koukan.storage.store import AttemptEnd, Envelope, NewTransaction, Store
from tests.support.chains import RecordingSink
from tests.support.house import eventually

OK = Response(250, "2.0.0 ok")
LATER = Response(450, "4.2.1 not now")


class Rows:
    """The part of a store that a dispatcher uses: leased rows, and what is written back."""

    def __init__(self) -> None:
        self.fenced = False
        self.cancelled = False
        self.ends: list[AttemptEnd] = []
        #: what is done before an end is written; it may raise
        self.before: Callable[[AttemptEnd], None] = lambda end: None
        #: set: ends are written at once
        self.commit = asyncio.Event()
        self.commit.set()
        self.arrived = asyncio.Event()

    async def finish_attempt(self, end: AttemptEnd) -> str | None:
        self.before(end)
        self.arrived.set()
        await self.commit.wait()
        self.ends.append(end)
        return CANCELLED if self.cancelled and end.final_reason is None else end.final_reason

    async def keep(self, transactions: Sequence[NewTransaction]) -> None:
        return


class House:
    """A dispatcher with one chain into a sink."""

    def __init__(self, sink: RecordingSink) -> None:
        self.sink = sink
        self.rows = Rows()
        store = cast("Store", self.rows)
        self.dispatcher = Dispatcher(store, Ledger(store, Notifier(GlobalConfig(), lambda: "1-bounce")), cache_ttl=5)
        chain = {
            "name": "deliver",
            "chain": [{"filter": "rest_output"}],
            "output_handler": {"retry_params": {"max_attempts": 2, "bug_retry": 1800}},
        }
        config = RouterConfig.model_validate(
            {
                "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
                "storage": {"url": "sqlite:///none"},
                "sender": [{"name": "app", "output_chain": "deliver"}],
                "endpoint": [chain],
            }
        )
        self.dispatcher.bind(Roles(config, {"deliver": Chain(config.endpoint[0], [], sink)}))

    @property
    def role(self) -> Role:
        role = self.dispatcher.roles.find("app", None)
        assert role is not None
        return role.delivering

    def work(self, tries: int = 0) -> Work:
        envelope = Envelope(Sender("app"), Mailbox("ann@example.net"), (Mailbox("bob@example.com"),))
        tx = Transaction(id="1-a", sender=Sender("app"))
        return Work("1-a", envelope, self.role, tx, retry=True, notification=False, tries=tries)

    def delivery(self, tries: int = 0) -> Delivery:
        work = self.work(tries)
        resource = Resource(
            id="1-a",
            incremental=False,
            mail_from=work.envelope.mail_from,
            rcpt_to=list(work.envelope.rcpt_to),
            body=BytesBody(b"Subject: x\r\n\r\nx\r\n"),
            retry=True,
        )
        return Delivery(resource, self.role, work.tx, work)

    async def run(self, delivery: Delivery) -> Resource:
        async with asyncio.timeout(5):
            await self.dispatcher.start(delivery)
        return delivery.resource


class HangingSink(RecordingSink):
    """Does not answer."""

    def open(self, tx: Transaction) -> Upstream:
        return _Hanging(self)


class _Hanging(Upstream):
    def __init__(self, sink: HangingSink) -> None:
        self._sink = sink

    async def step(self, step: Step) -> StepResult:
        self._sink.rcpt_to += step.rcpt_to
        return await asyncio.get_running_loop().create_future()

    async def heartbeat(self) -> None:
        self._sink.heartbeats += 1

    async def cancel(self) -> None:
        self._sink.cancelled += 1


# --- cancels ----------------------------------------------------------------------------------------------------------------


async def test_what_is_cancelled_between_its_claim_and_its_start_is_not_attempted() -> None:
    house = House(RecordingSink())
    house.dispatcher.revoke("1-a")
    resource = await house.run(house.delivery())
    assert house.sink.rcpt_to == [] and resource.cancelled and resource.final_reason == CANCELLED
    assert [end.final_reason for end in house.rows.ends] == [CANCELLED]
    later = await house.run(house.delivery())  # another of the same name is another
    assert later.final_reason == SUCCESS and not later.cancelled


async def test_a_cancel_between_the_answer_and_its_commit_holds() -> None:
    house = House(RecordingSink({"bob@example.com": LATER}))
    house.rows.commit.clear()
    delivery = house.delivery()
    task = house.dispatcher.start(delivery)
    await house.rows.arrived.wait()
    assert delivery.resource.rcpt_response == [LATER] and not delivery.resource.ended
    house.rows.cancelled = True
    house.dispatcher.revoke("1-a")
    house.rows.commit.set()
    await task
    assert delivery.resource.cancelled and delivery.resource.final_reason == CANCELLED


async def test_a_cancel_after_the_delivery_says_that_it_was_delivered() -> None:
    house = House(RecordingSink())
    house.rows.commit.clear()
    delivery = house.delivery()
    task = house.dispatcher.start(delivery)
    await house.rows.arrived.wait()
    house.rows.cancelled = True
    house.dispatcher.revoke("1-a")
    house.rows.commit.set()
    await task
    assert not delivery.resource.cancelled and delivery.resource.final_reason == SUCCESS


class LateSink(RecordingSink):
    """Its answer arrives in the very moment of a cancel."""

    def __init__(self, resources: list[Resource]) -> None:
        super().__init__()
        self._resources = resources

    def open(self, tx: Transaction) -> Upstream:
        return _Late(super().open(tx), self._resources)


class _Late(Upstream):
    def __init__(self, inner: Upstream, resources: list[Resource]) -> None:
        self._inner = inner
        self._resources = resources

    async def step(self, step: Step) -> StepResult:
        result = await self._inner.step(step)
        for resource in self._resources:
            resource.cancelled = True
        return result

    async def heartbeat(self) -> None:
        await self._inner.heartbeat()

    async def cancel(self) -> None:
        await self._inner.cancel()


async def test_a_cancel_that_meets_the_answer_does_not_hide_a_delivery() -> None:
    resources: list[Resource] = []
    house = House(LateSink(resources))
    delivery = house.delivery()
    resources.append(delivery.resource)
    resource = await house.run(delivery)
    assert resource.data_response is not None and resource.data_response.ok
    assert resource.final_reason == SUCCESS and not resource.cancelled


# --- the fence --------------------------------------------------------------------------------------------------------------


async def test_a_fenced_process_ends_every_attempt_at_once_and_begins_none() -> None:
    house = House(HangingSink())
    task = house.dispatcher.start(house.delivery())
    await eventually(lambda: house.sink.rcpt_to != [])
    house.rows.fenced = True
    house.dispatcher.fence()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    assert task.cancelled() and house.sink.cancelled == 1 and house.rows.ends == []
    await house.run(house.delivery())
    assert len(house.sink.rcpt_to) == 1


# --- the end of attempts ----------------------------------------------------------------------------------------------------


async def test_only_tries_count_towards_the_limit() -> None:
    house = House(RecordingSink({"bob@example.com": LATER}))
    first = await house.run(house.delivery())
    assert first.final_reason is None
    second = await house.run(house.delivery(tries=1))
    assert second.final_reason == MAX_ATTEMPTS
    assert [end.tried for end in house.rows.ends] == [True, True]


async def test_a_message_that_did_not_arrive_completely_was_not_tried() -> None:
    house = House(RecordingSink({"data": BODY_ABORTED}))
    resource = await house.run(house.delivery(tries=1))
    assert resource.final_reason is None
    assert [(end.tried, end.final_reason) for end in house.rows.ends] == [(False, None)]


@pytest.mark.parametrize("error", [Rejected("invalid byte sequence"), LookupError("nobody foresaw this")])
@pytest.mark.parametrize(("answer", "reason"), [(OK, SUCCESS), (LATER, None)])
async def test_an_outcome_that_cannot_be_written_is_written_in_plain_words(
    error: Exception, answer: Response, reason: str | None
) -> None:
    """What was delivered stays so; the rest comes back when somebody has mended the program."""
    house = House(RecordingSink({"data": answer}))

    def refuse(end: AttemptEnd) -> None:
        if end.responses.rcpt:
            raise error

    house.rows.before = refuse
    resource = await house.run(house.delivery())
    [end] = house.rows.ends
    assert end.final_reason == reason == resource.final_reason and resource.ended
    assert (end.retry_in, end.tried) == ((None, True) if reason else (1800, False))
    assert house.dispatcher.busy == 0


async def test_an_adopted_attempt_that_breaks_gives_its_lease_back() -> None:
    house = House(RecordingSink())

    async def broken() -> StepResult:
        raise LookupError("nobody foresaw this")

    work = house.work()
    child = ExploderChild(house.role, work.tx, RecordingSink().open(work.tx), work.envelope.rcpt_to[0])
    parent = Transaction(id="1", sender=Sender("app"), mail_from=Mailbox("ann@example.net"))
    running = asyncio.ensure_future(broken())
    await house.dispatcher.keep(parent, BytesBody(b"x"), [Kept(child, OK, None, running)])
    await eventually(lambda: len(house.rows.ends) == 1)
    assert house.rows.ends[0].final_reason is None and house.rows.ends[0].responses.data is not None


async def test_the_end_of_an_attempt_does_not_drop_the_next_one_of_that_name() -> None:
    house = House(RecordingSink({"bob@example.com": LATER}))
    house.rows.commit.clear()
    first = house.dispatcher.start(house.delivery())
    await house.rows.arrived.wait()
    house.sink.answers = {}
    second = house.delivery()
    task = house.dispatcher.start(second)
    house.rows.commit.set()
    await asyncio.wait([first, task])
    assert house.dispatcher.deliveries == {"1-a": second}
