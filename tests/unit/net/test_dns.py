import asyncio
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.config.router import DnsConfig
from koukan.errors import ConfigError
from koukan.net import dns as net_dns
from koukan.net.dns import MAX_CNAMES, MAX_NEGATIVE_TTL, MAX_TTL, MIN_TTL, Mx, Resolver, Status
from koukan.net.hosts import read_hosts
from tests.support.nameserver import NameServer

ZONE = """
example.com          MX    20 backup.example.com.
example.com          MX    10 mx.example.com.
example.com          TXT   "v=spf1 " "-all"
example.com          TXT   "other"
mx.example.com       A     192.0.2.1
mx.example.com       A     192.0.2.2
mx.example.com       AAAA  2001:db8::1
backup.example.com   AAAA  2001:db8::2
nullmx.example       MX    0 .
bücher.example       MX    10 mx.example.com.
alias.example        CNAME mx.example.com.
dangling.example     CNAME nowhere.example.
broken.example       MX    !servfail
broken.example       A     !servfail
broken.example       AAAA  !refused
half.example         A     !servfail
half.example         AAAA  2001:db8::3
unlucky.example      A     !servfail
silent.example       A     !silent
silent.example       AAAA  !silent
big.example          TXT   !truncated "over TCP"
slow.example         TXT   !delay 0.1 "late"
short.example        0     TXT "zero"
medium.example       60    TXT "minute"
long.example         999999 TXT "days"
1.2.0.192.in-addr.arpa  PTR  MX.example.com.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR mx6.example.com.
*.wild.example       TXT   "any"
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer(ZONE) as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver(server: NameServer, clock: Clock) -> Resolver:
    return Resolver(DnsConfig(nameservers=[server.address], timeout=10), clock=clock)


async def test_mx_records_are_exchanges_with_their_preference(resolver: Resolver) -> None:
    answer = await resolver.mx("example.com")
    assert answer.ok
    assert sorted(answer.records) == [Mx(10, "mx.example.com"), Mx(20, "backup.example.com")]


async def test_the_null_mx_is_a_dot(resolver: Resolver) -> None:
    assert (await resolver.mx("nullmx.example")).records == (Mx(0, "."),)


async def test_addresses_are_ipv4_then_ipv6(resolver: Resolver) -> None:
    answer = await resolver.addresses("mx.example.com")
    assert [str(a) for a in answer.records] == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert (await resolver.addresses("mx.example.com")).records == answer.records


async def test_addresses_of_one_family_are_enough(resolver: Resolver) -> None:
    assert [str(a) for a in (await resolver.addresses("half.example")).records] == ["2001:db8::3"]
    assert [str(a) for a in (await resolver.addresses("backup.example.com")).records] == ["2001:db8::2"]


async def test_strings_of_a_txt_record_are_one_text(resolver: Resolver) -> None:
    assert set((await resolver.txt("example.com")).records) == {b"v=spf1 -all", b"other"}


async def test_ptr_keeps_the_dot(resolver: Resolver) -> None:
    assert (await resolver.ptr(ip_address("192.0.2.1"))).records == ("MX.example.com.",)
    assert (await resolver.ptr(ip_address("2001:db8::1"))).records == ("mx6.example.com.",)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nowhere.example", Status.NXDOMAIN),
        ("mx.example.com", Status.NODATA),
        ("broken.example", Status.TEMPFAIL),
        ("dangling.example", Status.NXDOMAIN),
    ],
)
async def test_what_is_not_there_says_why(resolver: Resolver, name: str, status: Status) -> None:
    answer = await resolver.mx(name)
    assert (answer.status, answer.records) == (status, ())


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nowhere.example", Status.NXDOMAIN),
        ("example.com", Status.NODATA),
        ("broken.example", Status.TEMPFAIL),
        ("unlucky.example", Status.TEMPFAIL),
    ],
)
async def test_no_addresses_say_why(resolver: Resolver, name: str, status: Status) -> None:
    assert (await resolver.addresses(name)).status is status


async def test_silence_is_a_temporary_failure_in_bounded_time(server: NameServer) -> None:
    resolver = Resolver(DnsConfig(nameservers=[server.address], timeout=0.3))
    started = time.monotonic()
    assert (await resolver.addresses("silent.example")).status is Status.TEMPFAIL
    assert time.monotonic() - started < 3.0


async def test_the_second_server_answers_for_a_dead_one(server: NameServer) -> None:
    async with NameServer("example.com MX !silent") as dead:
        resolver = Resolver(DnsConfig(nameservers=[dead.address, server.address], timeout=2))
        assert (await resolver.mx("example.com")).ok


async def test_nobody_listens(server: NameServer) -> None:
    async with NameServer() as gone:
        address = gone.address
    resolver = Resolver(DnsConfig(nameservers=[address], timeout=0.2))
    assert (await resolver.mx("example.com")).status is Status.TEMPFAIL


async def test_a_truncated_answer_is_asked_for_over_tcp(resolver: Resolver, server: NameServer) -> None:
    assert (await resolver.txt("big.example")).records == (b"over TCP",)
    assert server.queries["big.example", "TXT"] == 2


async def test_questions_carry_edns(resolver: Resolver, server: NameServer) -> None:
    await resolver.txt("example.com")
    assert server.last_payload == net_dns.UDP_PAYLOAD


async def test_aliases_are_followed(resolver: Resolver) -> None:
    assert [str(a) for a in (await resolver.a("alias.example")).records] == ["192.0.2.1", "192.0.2.2"]


async def test_aliases_over_several_responses_are_followed(server: NameServer, resolver: Resolver) -> None:
    server.follow_aliases = False
    server.load("one.example CNAME two.example.\ntwo.example CNAME three.example.\nthree.example A 192.0.2.7")
    assert [str(a) for a in (await resolver.a("one.example")).records] == ["192.0.2.7"]


@pytest.mark.parametrize("follow", [True, False])
async def test_aliases_in_a_circle_end(server: NameServer, resolver: Resolver, follow: bool) -> None:
    server.follow_aliases = follow
    server.load("ping.example CNAME pong.example.\npong.example CNAME ping.example.")
    assert (await resolver.a("ping.example")).status is Status.TEMPFAIL
    assert sum(server.queries.values()) <= MAX_CNAMES


async def test_u_labels_become_a_labels(resolver: Resolver, server: NameServer) -> None:
    assert (await resolver.mx("Bücher.example")).ok
    assert server.queries["xn--bcher-kva.example", "MX"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "@",
        "a..b",
        ".a",
        "a" * 64,
        "a." * 128,
        "x" * 5000,
        "\\",
        "a\\999.b",
        "\x00",
        "ü..b",
        "\udc80.example",
        "☕" * 70,
    ],
)
async def test_names_that_are_none_do_not_exist(resolver: Resolver, name: str) -> None:
    assert (await resolver.mx(name)).status in (Status.NXDOMAIN, Status.NODATA)


async def test_wildcards(resolver: Resolver) -> None:
    assert (await resolver.txt("a.b.wild.example")).records == (b"any",)


# --- the cache ------------------------------------------------------------------------------------------------------------


async def test_an_answer_is_asked_for_once(resolver: Resolver, server: NameServer) -> None:
    first = await resolver.mx("example.com")
    assert await resolver.mx("EXAMPLE.com") is first
    assert server.queries["example.com", "MX"] == 1


async def test_a_hit_suspends_nobody(resolver: Resolver) -> None:
    await resolver.addresses("mx.example.com")
    with pytest.raises(StopIteration) as done:
        resolver.addresses("mx.example.com").send(None)
    assert done.value.value.ok


@pytest.mark.parametrize(
    ("name", "ttl"), [("short.example", MIN_TTL), ("medium.example", 60), ("long.example", MAX_TTL)]
)
async def test_an_answer_lives_for_its_bounded_ttl(
    resolver: Resolver, server: NameServer, clock: Clock, name: str, ttl: float
) -> None:
    await resolver.txt(name)
    clock.now += ttl - 0.1
    await resolver.txt(name)
    assert server.queries[name, "TXT"] == 1
    clock.now += 0.2
    await resolver.txt(name)
    assert server.queries[name, "TXT"] == 2


@pytest.mark.parametrize(("soa", "ttl"), [(0, MIN_TTL), (60, 60), (86400, MAX_NEGATIVE_TTL)])
@pytest.mark.parametrize("name", ["nowhere.example", "mx.example.com"])
async def test_an_absence_lives_as_long_as_the_soa_says(
    resolver: Resolver, server: NameServer, clock: Clock, name: str, soa: int, ttl: float
) -> None:
    server.negative_ttl = soa
    await resolver.mx(name)
    clock.now += ttl - 0.1
    await resolver.mx(name)
    assert server.queries[name, "MX"] == 1
    clock.now += 0.2
    await resolver.mx(name)
    assert server.queries[name, "MX"] == 2


async def test_a_failure_is_soon_asked_again(resolver: Resolver, server: NameServer, clock: Clock) -> None:
    assert (await resolver.mx("broken.example")).failed
    assert (await resolver.mx("broken.example")).failed
    assert server.queries["broken.example", "MX"] == 1
    server.load("broken.example MX 10 mx.example.com.")
    clock.now += net_dns.FAILURE_TTL
    assert (await resolver.mx("broken.example")).ok


async def test_equal_questions_at_a_time_are_one(resolver: Resolver, server: NameServer) -> None:
    answers = await asyncio.gather(*(resolver.txt("slow.example") for _ in range(50)))
    assert {a.records for a in answers} == {(b"late",)}
    assert server.queries["slow.example", "TXT"] == 1


async def test_who_gives_up_does_not_take_the_answer_from_others(resolver: Resolver, server: NameServer) -> None:
    hasty = asyncio.create_task(resolver.txt("slow.example"))
    patient = asyncio.create_task(resolver.txt("slow.example"))
    await server.asked.wait()
    hasty.cancel()
    assert (await patient).ok
    with pytest.raises(asyncio.CancelledError):
        await hasty


async def test_the_cache_is_bounded_and_forgets_what_was_not_used(server: NameServer) -> None:
    resolver = Resolver(DnsConfig(nameservers=[server.address], cache_size=2))
    await resolver.txt("one.wild.example")
    await resolver.txt("two.wild.example")
    await resolver.txt("one.wild.example")
    await resolver.txt("three.wild.example")
    await resolver.txt("one.wild.example")
    await resolver.txt("two.wild.example")
    asked = {name.split(".")[0]: n for (name, _), n in server.queries.items()}
    assert asked == {"one": 1, "two": 2, "three": 1}


async def test_answers_that_are_too_big_are_not_kept(resolver: Resolver, server: NameServer) -> None:
    longest = " ".join(['"' + "x" * 255 + '"'] * 16)
    server.load(f'fits.example TXT {longest}\nbig.example TXT {longest} "one line too many"')
    for name in ("fits.example", "fits.example", "big.example", "big.example"):
        assert (await resolver.txt(name)).ok
    assert server.queries == {("fits.example", "TXT"): 1, ("big.example", "TXT"): 2}


async def test_no_cache_at_all(server: NameServer) -> None:
    resolver = Resolver(DnsConfig(nameservers=[server.address], cache_size=0))
    await resolver.txt("example.com")
    await resolver.txt("example.com")
    assert server.queries["example.com", "TXT"] == 2


# --- the operator's own hosts ---------------------------------------------------------------------------------------------


async def test_localhost_needs_no_dns(resolver: Resolver, server: NameServer) -> None:
    assert ip_address("127.0.0.1") in (await resolver.host("localhost")).records
    assert not server.queries


async def test_other_hosts_are_asked_for(resolver: Resolver) -> None:
    assert (await resolver.host("mx.example.com")).ok
    assert (await resolver.host("nowhere.example")).status is Status.NXDOMAIN


def test_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        "192.0.2.1 Mail mail.example # ours\n2001:db8::1\tmail\n# nothing\n\nrubbish line\n192.0.2.300 bad\n"
    )
    hosts = read_hosts(str(path))
    assert [str(a) for a in hosts["mail"]] == ["192.0.2.1", "2001:db8::1"]
    assert [str(a) for a in hosts["mail.example"]] == ["192.0.2.1"]
    assert "line" not in hosts and "bad" not in hosts
    assert [str(a) for a in hosts["localhost"]] == ["127.0.0.1", "::1"]


def test_a_missing_hosts_file_still_knows_localhost(tmp_path: Path) -> None:
    assert list(read_hosts(str(tmp_path / "none"))) == ["localhost"]


# --- configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:53"])
def test_name_servers(text: str) -> None:
    Resolver(DnsConfig(nameservers=[text]))


@pytest.mark.parametrize(
    "text",
    ["", "dns.example", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:0", "192.0.2.1:65536", "[::1", "[::1]53", "[::1]x"],
)
def test_no_name_servers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"dns\.nameservers: .* is no address"):
        Resolver(DnsConfig(nameservers=[text]))


def test_the_system_name_servers_are_the_default() -> None:
    Resolver(DnsConfig())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=80))
async def test_no_name_raises(resolver: Resolver, name: str) -> None:
    assert isinstance((await resolver.txt(name)).status, Status)
