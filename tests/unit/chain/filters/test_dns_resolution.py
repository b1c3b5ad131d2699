import random
from typing import Any

import dns.name
import pytest

from koukan.chain.filters.router import RouteGuard
from koukan.chain.outputs import DnsResolutionOutput, DnsStatus
from koukan.chain.transaction import Transaction
from koukan.config.filters import RestOutput
from koukan.config.router import DnsConfig
from koukan.model import HostPort, Response, StepResult
from koukan.net.dns import Resolver
from koukan.rest.http import HttpClients
from koukan.rest.output import RestOutputSink
from tests.support.chains import (
    RecordingSink,
    StaticRoute,
    make_chain,
    make_context,
    make_step,
    make_transaction,
    send,
)
from tests.support.nameserver import NameServer

ZONE = """
a.example            MX    10 mx.b.example.
b.example            MX    20 backup.b.example.
b.example            MX    10 mx.b.example.
mx.b.example         A     192.0.2.1
mx.b.example         A     192.0.2.2
mx.b.example         AAAA  2001:db8::1
backup.b.example     A     192.0.2.3
backup.b.example     A     192.0.2.1
even.example         MX    10 one.even.example.
even.example         MX    10 two.even.example.
even.example         MX    10 three.even.example.
one.even.example     A     192.0.2.11
two.even.example     A     192.0.2.12
three.even.example   A     192.0.2.13
direct.example       A     192.0.2.20
six.example          AAAA  2001:db8::20
alias.example        CNAME b.example.
aliasmx.example      MX    10 alias-of-mx.example.
alias-of-mx.example  CNAME mx.b.example.
xn--bcher-kva.example MX   10 mx.b.example.
null.example         MX    0 .
nullish.example      MX    0 .
nullish.example      MX    10 mx.b.example.
empty.example        TXT   "nothing for mail"
dead.example         MX    10 nowhere.example.
servfail.example     MX    !servfail
un_derscore.b.example MX   10 mx.b.example.
halfdead.example     MX    10 broken.example.
halfdead.example     MX    20 mx.b.example.
alldead.example      MX    10 broken.example.
broken.example       A     !servfail
broken.example       AAAA  !servfail
loopback.example     MX    10 inside.example.
inside.example       A     127.0.0.1
inside.example       A     10.1.2.3
inside.example       AAAA  ::1
metadata.example     A     169.254.169.254
mapped.example       AAAA  ::ffff:10.0.0.1
nat64.example        AAAA  64:ff9b::7f00:1
half.example         MX    10 inside.example.
half.example         MX    20 mx.b.example.
ours.example         MX    10 better.example.
ours.example         MX    20 US.example.
ours.example         MX    20 equal.example.
ours.example         MX    30 worse.example.
better.example       A     192.0.2.31
us.example           A     192.0.2.32
equal.example        A     192.0.2.33
worse.example        A     192.0.2.34
onlyus.example       MX    10 us.example.
wearebest.example    MX    10 us.example.
wearebest.example    MX    20 worse.example.
byaddress.example    MX    10 better.example.
byaddress.example    MX    20 samehost.example.
samehost.example     A     192.0.2.32
many.example         MX    10 big.example.
"""
ALL = {"filter": "dns_resolution", "suffix": ""}
GATEWAY = {"name": "gateway", "endpoint": "http://gateway.invalid/", "sender": "outbound"}
REFUSED = ("x@null.example", "x@[127.0.0.1]")
BUECHER = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
OK, NX, TEMP = DnsStatus.OK, DnsStatus.NX, DnsStatus.TEMP


async def resolve(
    resolver: Resolver,
    *hosts: str | HostPort,
    rcpt: str = "bob@a.example",
    tx: Transaction | None = None,
    **options: Any,
) -> tuple[list[str], DnsStatus | None]:
    """What the sink sees of a route to these hosts on port 25, and the verdict on it."""
    sink = RecordingSink()
    tx = tx or make_transaction()
    route = StaticRoute(*(HostPort(host, 25) if isinstance(host, str) else host for host in hosts))
    chain = make_chain([route, ALL | options], sink, make_context(resolver))
    await send(chain, tx, rcpt_to=[rcpt])
    output = tx.output(DnsResolutionOutput)
    assert output is not None
    assert sink.hosts[0] is not None
    return [str(host) for host in sink.hosts[0]], output.resolution_result


async def through_a_relay(resolver: Resolver, hosts: list[dict[str, Any]], rcpt: str) -> StepResult:
    """One transaction by way of a destination with these hosts, in a chain that sends."""
    destination = {"endpoint": "gateway", "host_list": hosts}
    items: list[Any] = [{"filter": "router", "destination": destination}, ALL | {"allow_private": True}, RouteGuard()]
    chain = make_chain(items, RecordingSink(), make_context(resolver, rest_endpoint=[GATEWAY]))
    return await send(chain, make_transaction(), rcpt_to=[rcpt])


def at_25(*addresses: str) -> list[str]:
    return [str(HostPort(address, 25)) for address in addresses]


async def test_exchangers_come_by_preference_ipv4_first_each_address_once(resolver: Resolver) -> None:
    assert await resolve(resolver, "b.example") == (at_25("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"), OK)


async def test_the_port_stays(resolver: Resolver) -> None:
    assert await resolve(resolver, HostPort("direct.example", 2525)) == (["192.0.2.20:2525"], OK)


async def test_equal_preferences_are_tried_in_random_order(resolver: Resolver) -> None:
    sink = RecordingSink()
    context = make_context(resolver)
    chain = make_chain([StaticRoute(HostPort("even.example", 25)), ALL], sink, context)
    for _ in range(40):
        await send(chain, make_transaction())
    orders = {hosts for hosts in sink.hosts if hosts is not None}
    assert len({hosts[0] for hosts in orders}) == 3
    assert all({h.host for h in hosts} == {"192.0.2.11", "192.0.2.12", "192.0.2.13"} for hosts in orders)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("direct.example", ["192.0.2.20"]),
        ("six.example", ["2001:db8::20"]),
        ("alias.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"]),
        ("aliasmx.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("bücher.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("BÜCHER.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("nullish.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("halfdead.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("half.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("[192.0.2.77]", ["192.0.2.77"]),
        ("[IPv6:2001:db8::77]", ["2001:db8::77"]),
    ],
)
@pytest.mark.parametrize("named_by", ["recipient", "operator"])
async def test_what_resolves(resolver: Resolver, host: str, addresses: list[str], named_by: str) -> None:
    rcpt = f"bob@{host}" if named_by == "recipient" else "bob@other.invalid"
    assert await resolve(resolver, host, rcpt=rcpt) == (at_25(*addresses), OK)


@pytest.mark.parametrize(
    ("host", "result"),
    [
        ("nowhere.example", NX),
        ("null.example", NX),
        ("empty.example", TEMP),
        ("dead.example", TEMP),
        ("servfail.example", TEMP),
        ("alldead.example", TEMP),
        ("loopback.example", NX),
        ("inside.example", NX),
        ("metadata.example", NX),
        ("mapped.example", NX),
        ("nat64.example", NX),
    ],
)
@pytest.mark.parametrize("named_by", ["recipient", "operator"])
async def test_what_does_not_resolve_has_no_hosts(
    resolver: Resolver, host: str, result: DnsStatus, named_by: str
) -> None:
    rcpt = f"bob@{host}" if named_by == "recipient" else "bob@other.invalid"
    # What is wrong with a host of the operator's, the operator can mend.
    assert await resolve(resolver, host, rcpt=rcpt) == ([], result if named_by == "recipient" else TEMP)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("loopback.example", ["127.0.0.1", "10.1.2.3", "::1"]),
        ("[127.0.0.1]", ["127.0.0.1"]),
    ],
)
async def test_private_addresses_on_request(resolver: Resolver, host: str, addresses: list[str]) -> None:
    assert await resolve(resolver, host, rcpt=f"bob@{host}", allow_private=True) == (at_25(*addresses), OK)


async def test_private_addresses_of_the_configuration_are_taken(resolver: Resolver, server: NameServer) -> None:
    assert await resolve(resolver, HostPort("10.0.0.1", 3025)) == (["10.0.0.1:3025"], None)
    assert await resolve(resolver, HostPort("[10.0.0.1]", 3025)) == (["10.0.0.1:3025"], OK)
    hosts, result = await resolve(resolver, HostPort("localhost", 3025))
    assert "127.0.0.1:3025" in hosts
    assert result is OK
    static = [{"host": "127.0.0.1", "port": 3025}]
    assert await resolve(resolver, "b.example", static_hosts=static) == (["127.0.0.1:3025"], OK)
    assert not any(name in ("localhost", "b.example") for name, _ in server.queries)


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2130706433", "2130706433"),
        ("[127.0.0.1]", "[127.0.0.1]"),
        ("[127.0.0.1]", "127.0.0.1"),
        ("[IPv6:::1]", "::1"),
        ("[IPv6:0:0::1]", "::1"),
        ("[::1]", "[::1]"),
        ("[10.0.0.1]", "10.0.0.1"),
        ("[IPv6:::ffff:10.0.0.1]", "::ffff:a00:1"),
    ],
)
async def test_a_recipient_reaches_no_name_of_the_machine_and_no_private_address(
    resolver: Resolver, domain: str, host: str
) -> None:
    assert await resolve(resolver, host, rcpt=f"bob@{domain}") == ([], NX)


async def test_a_recipients_literal_as_dest_domain_writes_it(resolver: Resolver) -> None:
    assert await resolve(resolver, "192.0.2.77", rcpt="bob@[192.0.2.77]") == (at_25("192.0.2.77"), OK)


async def test_of_several_hosts_those_that_are_gone_leave_the_others(resolver: Resolver) -> None:
    hosts = ("nowhere.example", "direct.example", "servfail.example", "loopback.example")
    assert await resolve(resolver, *hosts) == (at_25("192.0.2.20"), OK)
    assert await resolve(resolver, "servfail.example", "nowhere.example") == ([], TEMP)


@pytest.mark.parametrize("host", ["nowhere.example", "null.example", "empty.example", "servfail.example"])
async def test_a_relay_that_is_gone_is_our_trouble_and_named_in_the_log_only(
    resolver: Resolver, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply to strangers says nothing of the host, nor that the recipient's domain did not exist."""
    result = await through_a_relay(resolver, [{"host": host, "port": 2525}], "bob@b.example")
    [answer] = result.rcpt
    assert (answer.code, answer.enhanced_code) == (451, "4.3.5")
    assert result.data is not None and result.data.code == 451
    assert host not in answer.message and "domain" not in answer.message
    [record] = [r for r in caplog.records if r.levelname == "WARNING"]
    assert f"relay {host}:2525 of the configuration does not resolve" in record.getMessage()


async def test_a_relay_may_be_called_as_the_recipients_domain(resolver: Resolver) -> None:
    """It is the operator's word then, in the host list of a destination: /etc/hosts and resolv.conf count."""
    result = await through_a_relay(resolver, [{"host": "localhost", "port": 2525}], "bob@localhost")
    assert result.rcpt[0].ok
    result = await through_a_relay(resolver, [{"host": "nowhere.example", "port": 25}], "bob@nowhere.example")
    assert result.rcpt[0].enhanced_code == "4.3.5"


async def test_a_relay_that_has_no_mailboxes_of_its_own_relays(resolver: Resolver, server: NameServer) -> None:
    server.load("relay.example MX 0 .\nrelay.example A 192.0.2.60")
    assert await resolve(resolver, "relay.example") == (at_25("192.0.2.60"), OK)
    assert await resolve(resolver, "relay.example", rcpt="bob@relay.example") == ([], NX)


async def test_static_hosts_may_have_names(resolver: Resolver) -> None:
    static = [{"host": "nowhere.example", "port": 25}, {"host": "direct.example", "port": 2525}]
    assert await resolve(resolver, "b.example", static_hosts=static) == (["192.0.2.20:2525"], OK)
    assert await resolve(resolver, "b.example", rcpt="bob@b.example", static_hosts=static[:1]) == ([], TEMP)


async def test_what_was_found_of_one_way_says_nothing_about_the_next(resolver: Resolver) -> None:
    """A recipient whose endpoint knows its hosts itself comes after one whose domain does not exist."""
    sink, tx = RecordingSink(), make_transaction()
    here = {"name": "address_list", "domains": ["here.example"], "destination": {"endpoint": "gateway"}}
    rule = {
        "filter": "policy_action",
        "tag": "nowhere",
        "mode": "PER_RCPT",
        "match": {"matcher": "dns_resolution", "resolution_result": "NX"},
        "action": "REJECT",
    }
    away = {"name": "dest_domain", "destination": {"endpoint": "gateway"}}
    routers = [{"filter": "router", "policy": policy} for policy in (here, away)]
    chain = make_chain([*routers, ALL, rule], sink, make_context(resolver, rest_endpoint=[GATEWAY]))
    result = await send(chain, tx, rcpt_to=["x@nowhere.example", "x@here.example"])
    assert [r.code for r in result.rcpt] == [550, 250]


async def test_addresses_and_other_names_stay_in_their_places(resolver: Resolver) -> None:
    hosts, result = await resolve(
        resolver, "192.0.2.9", "direct.example", "else.invalid", "direct.example", suffix=".example"
    )
    assert (hosts, result) == (at_25("192.0.2.9", "192.0.2.20", "else.invalid"), OK)


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ({"suffix": ""}, True),
        ({"suffix": ".EXAMPLE"}, True),
        ({"suffix": ".org"}, False),
        ({"suffix": None}, False),
        ({"suffix": None, "literal": "Direct.Example"}, True),
        ({"suffix": None, "literal": "rect.example"}, False),
    ],
)
async def test_which_names_match(resolver: Resolver, options: dict[str, Any], matches: bool) -> None:
    hosts, result = await resolve(resolver, "DIRECT.example", **options)
    assert (hosts, result) == ((at_25("192.0.2.20"), OK) if matches else (at_25("DIRECT.example"), None))


# --- ourselves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "own_hosts", "expected"),
    [
        ("ours.example", ["us.example"], (at_25("192.0.2.31"), OK)),
        ("ours.example", ["US.Example."], (at_25("192.0.2.31"), OK)),
        ("ours.example", ["192.0.2.32"], (at_25("192.0.2.31"), OK)),
        ("byaddress.example", ["192.0.2.32"], (at_25("192.0.2.31"), OK)),
        ("onlyus.example", ["us.example"], ([], NX)),
        ("wearebest.example", ["us.example"], ([], NX)),
        ("us.example", ["us.example"], ([], NX)),
        ("[192.0.2.32]", ["192.0.2.32"], ([], NX)),
    ],
)
async def test_exchangers_no_better_than_us_are_left_out(
    resolver: Resolver, domain: str, own_hosts: list[str], expected: tuple[list[str], DnsStatus]
) -> None:
    assert await resolve(resolver, domain, rcpt=f"bob@{domain}", own_hosts=own_hosts) == expected


@pytest.mark.parametrize(("port", "expected"), [(25, ([], NX)), (587, (at_25("192.0.2.32"), OK))])
async def test_the_listener_that_took_the_message_is_us(
    resolver: Resolver, port: int, expected: tuple[list[str], DnsStatus]
) -> None:
    tx = make_transaction(local=HostPort("192.0.2.32", port))
    assert await resolve(resolver, "onlyus.example", rcpt="bob@onlyus.example", tx=tx) == expected


async def test_mail_from_our_own_domain_is_no_loop(resolver: Resolver) -> None:
    tx = make_transaction()
    chain = make_chain([ALL | {"own_hosts": ["us.example"]}], RecordingSink(), make_context(resolver))
    await send(chain, tx, "ann@onlyus.example", ["bob@onlyus.example"])
    assert tx.output(DnsResolutionOutput) == DnsResolutionOutput(OK, (OK,), None)


# --- the envelope ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail_from", "result"),
    [
        ("ann@b.example", OK),
        ("ann@[192.0.2.1]", OK),
        ("ann@bu\u0308cher.example", OK),
        ("ann@[127.0.0.1]", NX),
        ("ann@bücher.example", OK),
        ("ann@nowhere.example", NX),
        ("ann@null.example", NX),
        ("a..n.@nowhere.example", NX),
        ("a..n.@un_derscore.b.example", OK),
        ("ann@servfail.example", TEMP),
        ("", None),
        ("ann", None),
        ("ann@", None),
        ("ann@b.example>", None),
    ],
)
async def test_the_domain_of_the_reverse_path(resolver: Resolver, mail_from: str, result: DnsStatus | None) -> None:
    tx = make_transaction()
    await send(make_chain([ALL], RecordingSink(), make_context(resolver)), tx, mail_from)
    output = tx.output(DnsResolutionOutput)
    assert output is not None
    assert output.mail_from_result is result


async def test_recipients_have_a_result_each_by_their_index(resolver: Resolver) -> None:
    tx = make_transaction()
    run = make_chain([ALL], RecordingSink(), make_context(resolver)).open(tx)
    await run.step(make_step("ann@a.example", ["x@b.example", "x@nowhere.example"]))
    await run.step(make_step(None, ["no address", "x@servfail.example", "x@else.invalid"]))
    await run.step(make_step(None, ["Postmaster", "a..b.@b.example", "a_b@un_derscore.b.example"]))
    output = tx.output(DnsResolutionOutput)
    assert output is not None
    assert output.rcpt_to_result == (OK, NX, NX, TEMP, NX, OK, OK, OK)
    assert output.to_json() == {"mail_from_result": 0, "rcpt_to_result": [0, 1, 1, 2, 1, 0, 0, 0]}


async def test_domains_that_do_not_match_are_ok(resolver: Resolver, server: NameServer) -> None:
    tx = make_transaction()
    options = {"filter": "dns_resolution", "suffix": ".inside"}
    await send(make_chain([options], RecordingSink(), make_context(resolver)), tx, "a@nowhere.example", ["b@c.example"])
    assert tx.output(DnsResolutionOutput) == DnsResolutionOutput(OK, (OK,), None)
    assert not server.queries


async def test_two_filters_each_speak_for_their_names(resolver: Resolver) -> None:
    tx, sink = make_transaction(), RecordingSink()
    local = {
        "filter": "dns_resolution",
        "literal": "sink.inside",
        "static_hosts": [{"host": "127.0.0.1", "port": 3025}],
    }
    rest = {"filter": "dns_resolution", "suffix": ".example"}
    route = StaticRoute(HostPort("sink.inside", 25), HostPort("direct.example", 25))
    chain = make_chain([route, local, rest, local], sink, make_context(resolver))
    await send(chain, tx, "ann@nowhere.example", ["bob@b.example"])
    assert sink.hosts == [(HostPort("127.0.0.1", 3025), HostPort("192.0.2.20", 25))]
    assert tx.output(DnsResolutionOutput) == DnsResolutionOutput(NX, (OK,), OK)


async def test_every_recipient_of_a_route_is_resolved(resolver: Resolver) -> None:
    sink = RecordingSink()
    run = make_chain([StaticRoute(HostPort("@", 25)), ALL], sink, make_context(resolver)).open(make_transaction())
    await run.step(make_step("ann@a.example", ["x@direct.example"]))
    await run.step(make_step(None, ["x@six.example"]))
    assert sink.hosts == [(HostPort("192.0.2.20", 25),), (HostPort("2001:db8::20", 25),)]


async def test_many_addresses_are_bounded(resolver: Resolver, server: NameServer) -> None:
    rng = random.Random(7)
    lines = [f"many.example MX {rng.randrange(100)} mx{i}.many.example." for i in range(60)]
    lines += [f"mx{i}.many.example A 192.0.2.{j}" for i in range(60) for j in rng.sample(range(1, 255), 40)]
    server.load("\n".join(lines))
    hosts, result = await resolve(resolver, "many.example")
    assert (len(hosts), result) == (20, OK)
    assert sum(n for (_, kind), n in server.queries.items() if kind == "A") <= 11


async def test_hosts_of_the_search_list(server: NameServer) -> None:
    server.load("hub.mail.svc A 192.0.2.50\ninside.mail.svc A 10.0.0.5")
    resolver = Resolver(DnsConfig(nameservers=[server.address]))
    resolver._stub.search = [dns.name.from_text("mail.svc")]
    assert await resolve(resolver, "hub") == (at_25("192.0.2.50"), OK)
    assert await resolve(resolver, "inside") == ([], TEMP)
    assert await resolve(resolver, "inside", allow_private=True) == (at_25("10.0.0.5"), OK)
    assert await resolve(resolver, "hub", rcpt="bob@hub") == ([], NX)


@pytest.mark.parametrize(
    ("domain", "code", "enhanced"), [("nowhere.example", 550, "5.1.2"), ("servfail.example", 450, "4.4.3")]
)
async def test_where_no_policy_answers_the_sink_does(resolver: Resolver, domain: str, code: int, enhanced: str) -> None:
    context = make_context(resolver)
    sink = RestOutputSink(RestOutput(filter="rest_output"), context, HttpClients())
    chain = make_chain([StaticRoute(HostPort("@", 25)), ALL], sink, context)
    result = await send(chain, make_transaction(), rcpt_to=[f"bob@{domain}"])
    assert [(r.code, r.enhanced_code) for r in result.rcpt] == [(code, enhanced)]
    assert result.data is not None
    assert result.data.code == code


async def test_a_policy_in_between_answers_first(resolver: Resolver) -> None:
    sink = RecordingSink()
    router = {"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "gateway"}}}
    policy = {
        "filter": "policy_action",
        "tag": "no mail server",
        "match": {"matcher": "koukan.mx_resolution.DnsResolutionFilter", "resolution_result": "NX"},
        "action": "REJECT",
        "code": 556,
        "message": "5.1.10 no",
    }
    context = make_context(resolver, rest_endpoint=[GATEWAY])
    for address in ("x@null.example", "x@Bücher.example", "x@[127.0.0.1]", "x@[192.0.2.77]"):
        result = await send(make_chain([router, ALL, policy], sink, context), make_transaction(), rcpt_to=[address])
        assert result.rcpt == [Response(556, "5.1.10 no") if address in REFUSED else Response(250, "ok")]
    assert sink.hosts == [tuple(HostPort(a, 25) for a in hosts) for hosts in (BUECHER, ["192.0.2.77"])]
