"""SPF with pyspf, another implementation, as the oracle, and with the test suite of RFC 7208 that it brings along."""

from __future__ import annotations

import random
from ipaddress import ip_address
from pathlib import Path

import pytest

from koukan.auth.spf import Verdict, check_host
from tests.support.pyspf import Case, Pyspf, Record, Zone, ZoneResolver, install, load_suite

pytestmark = pytest.mark.xdist_group("pyspf")

#: what is asked about
CLIENTS = ("192.0.2.1", "192.0.2.77", "2001:db8::1", "2001:db8::77")
ROUNDS = 1500


@pytest.fixture(scope="module")
def home() -> Path:
    return install()


@pytest.fixture(scope="module")
def pyspf(home: Path) -> Pyspf:
    return Pyspf(home)


async def ours(zone: Zone, client: str, helo: str, mail_from: str) -> Verdict:
    domain = mail_from.rpartition("@")[2] or helo
    sender = mail_from or f"postmaster@{helo}"
    return await check_host(ZoneResolver(zone), ip_address(client), domain, sender, helo=helo, receiver="receiver")


async def test_the_suite_of_rfc_7208(home: Path) -> None:
    cases = load_suite(home)
    assert len(cases) > 200
    wrong = []
    for case in cases:
        verdict = await ours(case.zone, case.client, case.helo, case.mail_from)
        explained = case.explanation is None or verdict.explanation == case.explanation
        if verdict.result.value not in case.results or not explained:
            wrong.append((case.name, case.results, verdict, case.explanation))
    assert wrong == []


async def test_pyspf_passes_the_suite_as_we_ask_it(home: Path, pyspf: Pyspf) -> None:
    """Otherwise it would be no oracle."""
    assert [case.name for case in load_suite(home) if not _agrees(pyspf, case)] == []


def _agrees(pyspf: Pyspf, case: Case) -> bool:
    return pyspf.check(case.zone, case.client, case.helo, case.mail_from) in case.results


async def test_records_as_people_write_them_get_the_same_verdicts(pyspf: Pyspf) -> None:
    """With one exchanger for an `mx`, so that its questions and its term are the same number."""
    rng = random.Random(7208)
    for _ in range(ROUNDS):
        zone = _zone(rng)
        client, sender = rng.choice(CLIENTS), rng.choice(["ann@a.example", "@a.example", "", "a..n@a.example"])
        theirs = pyspf.check(zone, client, "mail.a.example", sender)
        verdict = await ours(zone, client, "mail.a.example", sender)
        assert verdict.result.value == theirs, (zone, client, sender, verdict)


def _zone(rng: random.Random) -> Zone:
    def record(*more: str) -> Record:
        terms = rng.sample(
            [
                *more,
                *("a", "mx", "ip4:192.0.2.0/26", "ip6:2001:db8::/125", "a:six.example", "mx:six.example"),
                *("a:four.example", "mx:four.example", "a:nowhere.example", "exists:%{l}.seen.example"),
                *("a/28", "mx//120", "a:both.example/24//64", "?a:four.example", "ptr"),
                "exists:%{ir}.list.example",
            ],
            rng.randrange(1, 5),
        )
        return Record("TXT", " ".join(["v=spf1", *terms, rng.choice(["-all", "~all", "?all", *more, ""])]))

    return {
        "a.example": [
            record("include:b.example", "redirect=b.example"),
            Record("A", "192.0.2.1"),
            Record("MX", [10, "four.example"]),
        ],
        "b.example": [record(), Record("MX", [10, "both.example"])],
        "mail.a.example": [record("include:b.example"), Record("AAAA", "2001:db8::1")],
        "six.example": [Record("AAAA", "2001:db8::77"), Record("MX", [10, "six.example"])],
        "four.example": [Record("A", "192.0.2.77"), Record("MX", [10, "four.example"])],
        "both.example": [Record("A", "192.0.2.200"), Record("AAAA", "2001:db8::200")],
        "postmaster.seen.example": [Record("A", "127.0.0.2")],
        "77.2.0.192.list.example": [Record("A", "127.0.0.2")],
        "1.2.0.192.in-addr.arpa": [Record("PTR", "a.example")],
    }


@pytest.mark.parametrize(
    ("record", "theirs", "result"),
    [
        ("v=spf1 mx ~all", "permerror", "softfail"),
        ("v=spf1 a mx ip6:2001:db8::/32 -all", "permerror", "pass"),
        ("v=spf1 a mx a:four0.example -all", "permerror", "permerror"),
    ],
)
async def test_several_ipv4_exchangers_are_one_void_term_where_pyspf_counts_each(
    pyspf: Pyspf, record: str, theirs: str, result: str
) -> None:
    """RFC 7208 §4.6.4 limits terms; pyspf's users have asked for as much."""
    zone = {
        "a.example": [
            *(Record("TXT", record), Record("A", "192.0.2.1")),
            *(Record("MX", [10 * n, f"four{n}.example"]) for n in range(4)),
        ],
        **{f"four{n}.example": [Record("A", f"192.0.2.{n}")] for n in range(4)},
    }
    assert pyspf.check(zone, "2001:db8::1", "mail.a.example", "ann@a.example") == theirs
    assert (await ours(zone, "2001:db8::1", "mail.a.example", "ann@a.example")).result.value == result
