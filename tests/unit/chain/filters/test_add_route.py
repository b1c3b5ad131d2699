"""add_route: a copy through another chain, waited for or queued."""

from __future__ import annotations

import pytest

from koukan.chain.engine import ChainRun
from koukan.chain.filter import Context
from koukan.chain.transaction import Transaction
from koukan.model import Response, Sender
from tests.support.chains import (
    MESSAGE,
    RecordedSides,
    RecordingSink,
    make_chain,
    make_context,
    make_step,
    make_transaction,
)

FAILED = Response(550, "5.1.1 unknown")
BUSY = Response(451, "4.3.0 busy")


def start(
    sides: RecordedSides, sink: RecordingSink, *, stored: bool = False, earlier: int = 0, filters: int = 1
) -> tuple[Transaction, ChainRun]:
    item = {"filter": "add_route", "sender": "archive", "tag": "copy", "store_and_forward": stored}
    base = make_context()
    context = Context(base.config, side_chains=sides)
    tx = make_transaction()
    tx.earlier_attempts = earlier
    return tx, make_chain([item] * filters, sink, context).open(tx)


def envelope(sink: RecordingSink) -> tuple[list[str], list[str], list[bytes]]:
    return [m.address for m in sink.mail_from], [m.address for m in sink.rcpt_to], sink.bodies


WHOLE = (["ann@a.example"], ["bob@b.example"], [MESSAGE])


async def test_the_copy_has_what_the_original_has() -> None:
    for stored in (False, True):
        sides, sink = RecordedSides(), RecordingSink()
        _, run = start(sides, sink, stored=stored)
        result = await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
        assert result.data == Response(250, "ok")
        assert envelope(sink) == WHOLE
        (copy,) = (sides.stored if stored else sides.waited).values()
        assert envelope(copy) == WHOLE
        assert sides.senders == [Sender("archive", "copy")]


async def test_step_by_step() -> None:
    sides, sink = RecordedSides(), RecordingSink()
    _, run = start(sides, sink)
    assert (await run.step(make_step("ann@a.example"))).mail == Response(250, "ok")
    assert (await run.step(make_step(rcpt_to=["bob@b.example"]))).rcpt == [Response(250, "ok")]
    assert (await run.step(make_step(body=MESSAGE))).data == Response(250, "ok")
    assert envelope(next(iter(sides.waited.values()))) == WHOLE


@pytest.mark.parametrize("failure", [FAILED, BUSY])
async def test_a_failure_of_the_copys_recipient_is_the_originals(failure: Response) -> None:
    sides, sink = RecordedSides(bob_at_b_example=failure), RecordingSink()
    _, run = start(sides, sink)
    result = await run.step(make_step("ann@a.example", ["bob@b.example", "eve@b.example"], MESSAGE))
    assert result.mail == Response(250, "ok")
    assert result.rcpt[0] == Response(failure.code, f"{failure.message} (AddRouteFilter upstream)")
    assert result.rcpt[1].ok
    assert envelope(sink)[1] == ["eve@b.example"]


@pytest.mark.parametrize("failure", [FAILED, BUSY])
async def test_a_failure_of_the_copys_reverse_path_is_the_recipients(failure: Response) -> None:
    sides, sink = RecordedSides(ann_at_a_example=failure), RecordingSink()
    _, run = start(sides, sink)
    result = await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
    assert result.rcpt == [Response(failure.code, f"{failure.message} (AddRouteFilter upstream)")]
    assert result.data is not None
    assert result.data.code == failure.code
    assert sink.rcpt_to == []


@pytest.mark.parametrize("failure", [FAILED, BUSY])
async def test_a_failure_of_the_copys_data_is_the_originals(failure: Response) -> None:
    sides, sink = RecordedSides(data=failure), RecordingSink()
    _, run = start(sides, sink)
    result = await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
    assert result.rcpt[0].ok
    assert result.data == Response(failure.code, f"{failure.message} (AddRouteFilter upstream)")
    assert sink.bodies == []


async def test_the_success_of_the_copy_is_not_reported() -> None:
    sides, sink = RecordedSides(), RecordingSink({"data": BUSY})
    _, run = start(sides, sink)
    assert (await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))).data == BUSY


async def test_the_copy_gets_no_body_when_every_recipient_of_the_original_fails() -> None:
    for stored in (False, True):
        sides, sink = RecordedSides(), RecordingSink({"bob@b.example": FAILED})
        _, run = start(sides, sink, stored=stored)
        await run.step(make_step("ann@a.example", ["bob@b.example"]))
        result = await run.step(make_step(body=MESSAGE))
        assert result.data is not None
        assert result.data.permanent
        await run.cancel()
        assert all(copy.bodies == [] for copy in (*sides.waited.values(), *sides.stored.values()))
        assert [copy.cancelled for copy in sides.waited.values()] == ([] if stored else [1])


async def test_the_copy_ends_with_the_original() -> None:
    sides = RecordedSides()
    _, run = start(sides, RecordingSink())
    await run.step(make_step("ann@a.example", ["bob@b.example"]))
    await run.cancel()
    await run.cancel()
    assert [copy.cancelled for copy in sides.waited.values()] == [1]


async def test_an_original_that_never_began_ends_quietly() -> None:
    sides = RecordedSides()
    _, run = start(sides, RecordingSink())
    await run.cancel()
    assert sides.waited == {}


# --- queued ---------------------------------------------------------------------------------------------------------------


async def test_the_queued_copy_goes_to_accepted_recipients_only() -> None:
    sides, sink = RecordedSides(), RecordingSink({"bob@b.example": FAILED})
    _, run = start(sides, sink, stored=True)
    await run.step(make_step("ann@a.example", ["bob@b.example", "eve@b.example"]))
    assert sides.stored == {}
    await run.step(make_step(body=MESSAGE))
    assert [envelope(copy)[1] for copy in sides.stored.values()] == [["eve@b.example"]]


async def test_a_copy_that_cannot_be_stored_is_a_temporary_failure() -> None:
    sides, sink = RecordedSides(data=BUSY), RecordingSink()
    _, run = start(sides, sink, stored=True)
    result = await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
    assert result.data == Response(451, "4.3.0 busy (AddRouteFilter upstream)")
    assert sink.bodies == []


# --- ids ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
async def test_copies_have_the_same_ids_in_every_attempt(stored: bool) -> None:
    ids: list[list[str]] = []
    for earlier in (0, 1):
        sides = RecordedSides()
        _, run = start(sides, RecordingSink(), stored=stored, earlier=earlier, filters=2)
        await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
        ids.append([*sides.waited, *sides.stored])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    assert all(name.startswith("tx1-copy") for name in ids[0])


async def test_a_queued_copy_keeps_its_id_when_another_recipient_is_refused_later() -> None:
    ids: list[list[str]] = []
    for refused in ({}, {"bob@b.example": BUSY}):
        sides = RecordedSides()
        _, run = start(sides, RecordingSink(refused), stored=True)
        await run.step(make_step("ann@a.example", ["bob@b.example", "eve@b.example"]))
        await run.step(make_step(body=MESSAGE))
        ids.append([name for name, copy in sides.stored.items() if envelope(copy)[1] == ["eve@b.example"]])
    assert ids[0] == ids[1]


# --- options --------------------------------------------------------------------------------------------------------------


async def test_without_sender_there_is_no_copy() -> None:
    chain = make_chain([{"filter": "add_route"}], RecordingSink())
    assert chain.on_mail == ()
    assert not chain.waits_for_body


async def test_outside_a_router_it_is_a_temporary_failure() -> None:
    result = (
        await make_chain([{"filter": "add_route", "sender": "archive"}], RecordingSink())
        .open(make_transaction())
        .step(make_step("ann@a.example"))
    )
    assert result.mail is not None
    assert result.mail.code == 451
