"""A server that cannot be reached for some seconds while it has the message: the client asks until it knows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from koukan.model import Response
from tests.faults.durable import RouterToDurable
from tests.faults.hops import GatewayToRouter, Hop, NextHop, RouterToGateway, recipients
from tests.faults.proxy import Fault, Kind
from tests.faults.virtual import run

LATER = Response(450, "4.2.0 later")


def away(first: int, last: int) -> dict[int, Fault]:
    """Connections are refused, as by a pod that moves."""
    return {number: Fault(Kind.CUT_BEFORE) for number in range(first, last + 1)}


@pytest.mark.parametrize(
    ("hop", "seconds", "faults"),
    [
        (RouterToGateway, 20, {1: Fault(Kind.ANSWER_LOST), **away(2, 14)}),
        (RouterToGateway, 120, {1: Fault(Kind.CUT_AFTER), **away(2, 14)}),
        (RouterToGateway, 120, away(2, 14)),
        (GatewayToRouter, 60, away(2, 14)),
        (GatewayToRouter, 60, away(2, 11)),
    ],
)
def test_it_is_asked_until_it_answers(hop: type[Hop], seconds: int, faults: Mapping[int, Fault]) -> None:
    story = hop(faults, NextHop(seconds=seconds))
    told = run(lambda: story.run(recipients(1)))
    assert told.data == 250 and story.taken() == {"r0@example.com": 1}


@pytest.mark.parametrize(
    "next_hop",
    [
        NextHop({"r0@example.com": LATER}),  # it waits for its next attempt
        NextHop({"data r0@example.com": LATER}, seconds=100),  # an attempt is under way
        NextHop({"data r0@example.com": LATER}, seconds=1),
    ],
    ids=["between attempts", "in flight", "prompt"],
)
def test_what_a_server_with_retries_has_taken_over_is_not_called_off(next_hop: NextHop) -> None:
    story = RouterToDurable({1: Fault(Kind.ANSWER_LOST), **away(2, 11)}, next_hop)
    told = run(lambda: story.run(recipients(1)))
    assert told.data == 250 and story.taken() == {"r0@example.com": 1}
