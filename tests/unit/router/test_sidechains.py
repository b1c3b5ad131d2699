"""Copies of add_route: delivered once, however often their original is attempted."""

from __future__ import annotations

from typing import cast

from koukan.chain.engine import Chain
from koukan.chain.transaction import Transaction
from koukan.errors import StoreError
from koukan.model import Response, Sender
from koukan.router.dispatcher import Dispatcher
from koukan.router.roles import Role, Roles
from koukan.router.sidechains import RouterSideChains
from koukan.storage.store import NewTransaction, Store
from tests.support.chains import MESSAGE, RecordingSink, make_chain, make_context, make_step, make_transaction

COPY = Sender("archive")
CONFIG = {
    "sender": [{"name": "archive", "output_chain": "test"}],
    "endpoint": [{"name": "test", "chain": [{"filter": "rest_output"}]}],
}


class Rows:
    """The part of a store that copies use."""

    def __init__(self) -> None:
        self.rows: dict[str, NewTransaction] = {}
        self.down = False

    def record(self, transaction: NewTransaction) -> None:
        self.rows[transaction.id] = transaction

    async def keep(self, transactions: list[NewTransaction]) -> None:
        if self.down:
            raise StoreError("down")
        for transaction in transactions:
            assert transaction.id not in self.rows
            self.rows[transaction.id] = transaction

    async def load(self, tx_id: str) -> NewTransaction | None:
        if self.down:
            raise StoreError("down")
        return self.rows.get(tx_id)


class Queue:
    """The part of a dispatcher that copies use."""

    def __init__(self, chain: Chain) -> None:
        config = make_context(**CONFIG).config
        self.roles = Roles(config, {"test": chain})
        self.wakes = 0
        self.queued = self

    def set(self) -> None:
        self.wakes += 1


class House:
    def __init__(self, sink: RecordingSink) -> None:
        self.rows = Rows()
        self.queue = Queue(make_chain([], sink))
        self.chains = RouterSideChains(cast("Store", self.rows), cast("Dispatcher", self.queue))

    async def attempt(self, earlier: int, *, stored: bool = False) -> Response | None:
        """One attempt of the original, as far as the copy is concerned."""
        tx = original(earlier)
        opened = self.chains.open_stored if stored else self.chains.open
        copy = opened(tx, COPY, "tx1-copy1")
        result = await copy.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
        await copy.cancel()
        return result.data


def original(earlier: int) -> Transaction:
    tx = make_transaction()
    tx.earlier_attempts = earlier
    return tx


def test_the_sender_of_the_copies_has_a_role() -> None:
    assert isinstance(House(RecordingSink()).queue.roles.find("archive", None), Role)


async def test_a_delivered_copy_is_not_delivered_again() -> None:
    sink = RecordingSink()
    house = House(sink)
    assert await house.attempt(0) == Response(250, "ok")
    again = await house.attempt(1)
    assert again is not None
    assert again.ok
    assert sink.bodies == [MESSAGE]
    row = house.rows.rows["tx1-copy1"]
    assert row.final_reason == "upstream response success"
    assert [m.address for m in row.envelope.rcpt_to] == ["bob@b.example"]
    assert row.envelope.sender == COPY


async def test_a_copy_that_failed_is_tried_again() -> None:
    sink = RecordingSink({"data": Response(451, "4.3.0 busy")})
    house = House(sink)
    assert await house.attempt(0) == Response(451, "4.3.0 busy")
    assert house.rows.rows == {}
    sink.answers = {}
    assert await house.attempt(1) == Response(250, "ok")
    assert len(sink.bodies) == 2


async def test_without_a_database_nobody_guesses_whether_it_was_delivered() -> None:
    sink = RecordingSink()
    house = House(sink)
    house.rows.down = True
    answer = await house.attempt(1)
    assert answer is not None
    assert answer.temporary
    assert sink.bodies == []


async def test_a_queued_copy_is_queued_once() -> None:
    sink = RecordingSink()
    house = House(sink)
    for earlier in (0, 1):
        answer = await house.attempt(earlier, stored=True)
        assert answer is not None
        assert answer.ok
    assert list(house.rows.rows) == ["tx1-copy1-0"]
    assert house.rows.rows["tx1-copy1-0"].envelope.sender == COPY
    assert house.queue.wakes >= 1
    assert sink.bodies == []


async def test_a_copy_that_cannot_be_queued_is_a_temporary_failure() -> None:
    house = House(RecordingSink())
    house.rows.down = True
    answer = await house.attempt(0, stored=True)
    assert answer is not None
    assert answer.temporary
