"""Every exchange between two programs of the house, spoilt in every way once or twice: what is told is what becomes true.

No recipient is told 2xx without being delivered or kept, none is told 4xx or 5xx and delivered, each is delivered once. One
exchange remains: a server that has the whole message, and then cannot be reached for longer than its client waits, leaves the
client without knowledge, and the client says "temporary".
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from koukan.model import Response
from tests.faults.hops import (
    GatewayToRouter,
    Hop,
    NextHop,
    RouterToApplication,
    RouterToGateway,
    RouterToParsingApplication,
    recipients,
)
from tests.faults.proxy import Fault, Kind
from tests.faults.virtual import run

#: seconds beyond: one wait of an exchange, the limit for the envelope, the limit for the data
BEYOND = (35, 45, 700)
FAULTS = [
    *(Fault(kind) for kind in Kind if kind not in (Kind.ANSWER_LATE, Kind.REQUEST_LATE, Kind.STOPPED)),
    *(Fault(kind, seconds) for kind in (Kind.ANSWER_LATE, Kind.REQUEST_LATE, Kind.STOPPED) for seconds in BEYOND),
]
#: exchanges of a conversation that may be spoilt: create, a recipient each, body, and what follows from the first fault
EXCHANGES = 9

NEXT_HOPS: dict[str, Mapping[str, object]] = {
    "prompt": {},
    "slow": {"seconds": 50},
    "one-refuses": {"answers": {"r0@example.com": Response(550, "5.1.1 no")}},
    "one-defers-data": {"answers": {"data r0@example.com": Response(450, "4.2.0 later")}},
}


@dataclass(frozen=True)
class Case:
    hop: type[Hop]
    rcpts: int
    behind: str
    faults: Mapping[int, Fault]

    def remains(self, data: int | None) -> bool:
        """The one exchange: nobody could be asked any more what became of the message."""
        upload = {GatewayToRouter: self.rcpts, RouterToParsingApplication: 3}.get(self.hop, 1)
        out_of_reach = any(n > upload and f.kind is Kind.STOPPED and f.seconds > 300 for n, f in self.faults.items())
        return out_of_reach and data is not None and 400 <= data < 500

    def __str__(self) -> str:
        faults = ", ".join(f"{number}: {fault}" for number, fault in self.faults.items())
        return f"{self.hop.__name__} {self.rcpts} {self.behind} {{{faults}}}"


def singles() -> Iterator[Mapping[int, Fault]]:
    for number, fault in itertools.product(range(EXCHANGES), FAULTS):
        yield {number: fault}


def pairs(seed: int, count: int) -> Iterator[Mapping[int, Fault]]:
    rng = random.Random(seed)
    for _ in range(count):
        first, second = sorted(rng.sample(range(EXCHANGES), 2))
        yield {first: rng.choice(FAULTS), second: rng.choice(FAULTS)}


def check(case: Case) -> list[str]:
    """What is wrong about the outcome of a case."""

    async def story() -> list[str]:
        hop = case.hop(case.faults, NextHop(**NEXT_HOPS[case.behind]))
        addresses = recipients(case.rcpts)
        told = await hop.run(addresses)
        taken = hop.taken()
        wrong = [
            f"{address} was told {told.rcpt[address]} and {told.data}, and there are {taken[address]} copies"
            for address in addresses
            if taken[address] != told.accepted(address) and not (taken[address] == 1 and case.remains(told.data))
        ]
        return [*wrong, *hop.proxy.seen] if wrong else []

    return run(story)


def failures(cases: Iterator[Case]) -> str:
    found = [(case, wrong) for case in cases if (wrong := check(case))]
    return "\n".join(f"{case}\n    " + "\n    ".join(wrong) for case, wrong in found[:20]) + f"\n{len(found)}" * bool(
        found
    )


HOPS = [GatewayToRouter, RouterToGateway, RouterToApplication, RouterToParsingApplication]


@pytest.mark.parametrize("behind", NEXT_HOPS)
@pytest.mark.parametrize("rcpts", [1, 3])
@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: hop.__name__)
def test_one_fault(hop: type[Hop], rcpts: int, behind: str) -> None:
    assert not failures(Case(hop, rcpts, behind, faults) for faults in singles())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: hop.__name__)
def test_two_faults(hop: type[Hop], seed: int) -> None:
    rng = random.Random(seed)
    assert not failures(
        Case(hop, rng.randint(1, 5), rng.choice(list(NEXT_HOPS)), faults) for faults in pairs(seed, 150)
    )
