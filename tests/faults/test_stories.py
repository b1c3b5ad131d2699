"""Interleavings that have lost or doubled mail, one by one, between a gateway's SMTP side, a router, and what is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from koukan.model import Response
from tests.faults.hops import GatewayToRouter, Hop, NextHop, RouterToGateway, Told, recipients
from tests.faults.proxy import Fault, Kind
from tests.faults.virtual import VirtualLoop, run

#: seconds that are longer than a gateway waits for the answer to RCPT
PATIENCE = 45


def outcome(hop: Hop, count: int) -> Told:
    return run(lambda: hop.run(recipients(count)))


def to_router(faults: Mapping[int, Fault], next_hop: NextHop) -> GatewayToRouter:
    return GatewayToRouter(faults, next_hop)


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    """The router stands still within the second RCPT: the third one's answer would be that of the second."""
    next_hop = NextHop()
    hop = to_router({1: Fault(Kind.STOPPED, PATIENCE)}, next_hop)
    told = outcome(hop, 3)
    assert list(told.rcpt.values()) == [250, 450, 451] and told.data == 451
    assert not hop.taken() and any("cancel" in line for line in hop.proxy.seen)


def test_a_lost_answer_to_a_recipient_is_looked_for() -> None:
    hop = to_router({1: Fault(Kind.ANSWER_LOST)}, NextHop())
    told = outcome(hop, 2)
    assert list(told.rcpt.values()) == [250, 250] and told.data == 250
    assert hop.taken() == {"r0@example.com": 1, "r1@example.com": 1}


def test_an_upload_without_an_answer_is_looked_for_and_not_repeated() -> None:
    """The connection breaks while the next hop is slow with its 250."""
    for kind in (Kind.ANSWER_LOST, Kind.CUT_AFTER):
        hop = RouterToGateway({1: Fault(kind)}, NextHop(seconds=20))
        told = outcome(hop, 1)
        assert told.data == 250 and hop.taken() == {"r0@example.com": 1}
        assert sum(line.split()[1] == "PUT" for line in hop.proxy.seen) == 1 or kind is Kind.CUT_AFTER


def test_a_next_hop_that_takes_ten_minutes_gets_the_message_once() -> None:
    """Longer than rest_output waits for the answer to the data, shorter than a gateway waits after the dot."""
    hop = RouterToGateway({}, NextHop(seconds=590))
    assert outcome(hop, 1).data == 250 and hop.taken() == {"r0@example.com": 1}


def test_a_relay_keeps_what_a_silent_next_hop_may_have() -> None:
    hop = to_router({}, NextHop(seconds=400))
    told = outcome(hop, 1)
    [row] = hop.store.rows.values()
    assert told.data == 250 and row.final_reason == "upstream response success"
    assert hop.taken() == {"r0@example.com": 1}


def test_a_cancel_that_meets_the_next_hops_answer_says_the_truth() -> None:
    """The client gives up while the next hop has the message: it is delivered, and reads so."""
    hop = RouterToGateway({1: Fault(Kind.ANSWER_LATE, 2000), 2: Fault(Kind.ANSWER_LATE, 2000)}, NextHop(seconds=100))
    assert outcome(hop, 1).data == 250 and hop.taken() == {"r0@example.com": 1}


def test_a_process_that_lost_its_session_sends_no_body() -> None:
    next_hop = NextHop()
    hop = to_router({}, next_hop)
    next_hop.before_body = lambda: setattr(hop.store, "lost_session", True)
    assert outcome(hop, 2).data == 451 and not next_hop.delivered


def test_a_process_that_stood_still_sends_nothing_to_a_client_that_may_be_gone() -> None:
    def stand_still() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.leap(PATIENCE)

    next_hop = NextHop(before_body=stand_still)
    assert outcome(to_router({}, next_hop), 2).data == 451 and not next_hop.delivered


def test_a_recipient_whose_answer_is_a_servers_own_keeps_its_words() -> None:
    hop = to_router(
        {}, NextHop({"r1@example.com": Response(450, "4.2.1 later"), "r2@example.com": Response(550, "no")})
    )
    told = outcome(hop, 3)
    assert list(told.rcpt.values()) == [250, 450, 550] and told.data == 250
    assert hop.taken() == {"r0@example.com": 1}
