"""SPF against records that nobody honest writes: nothing raises, and everything is bounded."""

from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.auth.spf import Result, check_host, evaluator
from koukan.auth.spf.macros import MAX_DOMAIN, parse_macros
from koukan.auth.spf.record import MAX_RECORD, parse_record
from koukan.config.router import DnsConfig
from koukan.errors import InvalidRecord
from koukan.net.dns import Resolver
from tests.support.cost import at_most
from tests.support.nameserver import NameServer

CLIENT = ip_address("192.0.2.1")
FRAGMENTS = st.one_of(
    st.sampled_from(["v=spf1 ", "exists:", "include:", "redirect=", "exp=", "ip4:", "ip6:", "x="]),
    st.sampled_from(["a", "mx", "ptr", "all", "192.0.2.1", "::", "24", "64", "hostile.example", "sub.hostile.example"]),
    st.sampled_from(["%{", "}", "%", "%%", "%_", "s", "l", "d", "p", "r", "i", "1", "0"]),
    st.sampled_from(["-", "~", "/", "//", ".", ":", "=", " ", "\t", "\x00", "\xff", "\r\n", "@", "\\", "*"]),
)
TEXTS = st.one_of(
    st.binary(max_size=600),
    st.lists(FRAGMENTS, max_size=40).map(lambda parts: ("v=spf1 " + "".join(parts)).encode("latin-1")),
    st.lists(
        st.sampled_from(
            [
                b"a",
                b"mx",
                b"ptr",
                b"a:%{p}.x.example",
                b"exists:%{i}.%{l}.example",
                b"-all",
                b"include:hostile.example",
                b"redirect=hostile.example",
                b"exp=hostile.example",
            ]
        ),
        max_size=25,
    ).map(lambda terms: b"v=spf1 " + b" ".join(terms)),
)


def quoted(content: bytes) -> str:
    """TXT data in a zone: strings of up to 255 octets, each octet by its number."""
    strings = [content[i : i + 255] for i in range(0, len(content), 255)] or [b""]
    return " ".join('"' + "".join(f"\\{octet:03d}" for octet in string) + '"' for string in strings)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer() as started:
        yield started


def make_resolver(server: NameServer) -> Resolver:
    return Resolver(DnsConfig(nameservers=[server.address], timeout=10))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_text_is_a_record_or_an_invalid_one(text: bytes) -> None:
    try:
        parse_record(text)
    except InvalidRecord as error:
        assert str(error).isprintable()
        assert str(error).isascii()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, explanation=st.binary(max_size=80), sender=st.text(max_size=80), helo=st.text(max_size=40))
async def test_every_record_gets_a_verdict_for_few_questions(
    server: NameServer, text: bytes, explanation: bytes, sender: str, helo: str
) -> None:
    names = "\n".join(f"1.2.0.192.in-addr.arpa PTR n{i}.hostile.example." for i in range(30))
    exchangers = "\n".join(f"hostile.example MX {i} m{i}.hostile.example." for i in range(8))
    server.load(
        f"hostile.example TXT {quoted(text)}\n*.hostile.example TXT {quoted(explanation)}\n"
        f"*.hostile.example A 192.0.2.77\n{names}\n{exchangers}"
    )
    server.queries.clear()
    verdict = await check_host(
        make_resolver(server), CLIENT, "hostile.example", sender + "@hostile.example", helo=helo, receiver="r"
    )
    assert isinstance(verdict.result, Result)
    for words in (verdict.explanation, verdict.problem):
        assert words is None or (words.isascii() and words.isprintable() and len(words) < 500)
    # Ten terms that ask, each for one name and at most ten more; the names of the client; the record and its explanation.
    assert sum(server.queries.values()) <= 10 * 11 + 11 + 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(domain=st.text(max_size=80), sender=st.text(max_size=80))
async def test_no_domain_and_no_sender_raises(server: NameServer, domain: str, sender: str) -> None:
    verdict = await check_host(make_resolver(server), CLIENT, domain, sender)
    assert verdict.result is Result.NONE


@pytest.mark.parametrize(
    "record",
    [
        b"a:" * (MAX_RECORD // 2),
        b"a:" + b"x/" * (MAX_RECORD // 2 - 10),
        b"a:" + b"1" * (MAX_RECORD - 20),
        b"a:x." + b"1-" * (MAX_RECORD // 2 - 20),
        b"exists:" + b"%{" * (MAX_RECORD // 2 - 10),
        b"exists:" + b"%{s" * (MAX_RECORD // 3 - 10),
        b"ip4:" + b"1." * (MAX_RECORD // 2 - 10),
        b"ip6:" + b":" * (MAX_RECORD - 20),
        b" " * (MAX_RECORD - 20),
        b"a " * (MAX_RECORD // 2 - 10),
        b"x=" + b"%{d}" * (MAX_RECORD // 4 - 10),
        b"a.b" * (MAX_RECORD // 3 - 10),
        b"-" * (MAX_RECORD - 20),
        b"exists:%{s" + b"9" * (MAX_RECORD - 40) + b"}",
        b"exists:%{s" + b"." * (MAX_RECORD - 40) + b"}",
    ],
)
def test_the_longest_record_is_read_in_no_time(record: bytes) -> None:
    with at_most(0.25), suppress(InvalidRecord):
        parse_record(b"v=spf1 " + record[: MAX_RECORD - 7])


def test_a_longer_record_is_an_error() -> None:
    with pytest.raises(InvalidRecord, match="longer than"):
        parse_record(b"v=spf1 " + b" " * MAX_RECORD)


def test_expansion_is_bounded() -> None:
    values = {"s": "a.b-c+" * 200, "d": "d.example"}
    many = parse_macros("%{s}" * 4000 + ".%{d}", explanation=True)
    with at_most(0.05):
        name = many.expand_domain(values)
        assert many.expand_text(values, 400) is None
    assert len(name) <= MAX_DOMAIN
    assert name.endswith(".d.example")


@given(st.text(st.sampled_from("ab.%{}slodi019rR-+,/_= \t\xff"), max_size=60), st.text(max_size=300))
def test_names_that_macros_make_are_short(text: str, value: str) -> None:
    try:
        spec = parse_macros(text)
    except InvalidRecord:
        return
    assert len(spec.expand_domain(dict.fromkeys("slodiphcrtv", value))) <= MAX_DOMAIN


async def test_time_is_bounded(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "MAX_SECONDS", 0.1)
    server.load('slow.example TXT "v=spf1 a:silent.example -all"\nsilent.example A !silent')
    verdict = await check_host(make_resolver(server), CLIENT, "slow.example", "ann@slow.example")
    assert (verdict.result, verdict.problem) == (Result.TEMPERROR, "no verdict within 0.1 seconds")
