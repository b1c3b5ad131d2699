"""router with its policies: who takes a recipient, and which way a transaction goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from koukan.chain.filter import Context
from koukan.chain.filters.router import RouteGuard, Router
from koukan.chain.routing.policy import RoutingPolicy
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.router import RestEndpoint
from koukan.model import HostPort, Mailbox, Response, StepResult
from tests.support.chains import RecordingSink, make_chain, make_context, make_step, make_transaction

GATEWAY = {"name": "gateway", "endpoint": "http://gateway.invalid/", "sender": "router", "options": {"a": 1, "b": 1}}
APP = {"name": "app", "endpoint": "http://app.invalid/", "sender": "router"}


def context() -> Context:
    return make_context(rest_endpoint=[GATEWAY, APP])


def address_list(destination: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    policy = {"name": "address_list", **options}
    return {"filter": "router", "policy": policy if destination is None else {**policy, "destination": destination}}


async def route(items: Sequence[Any], *rcpt_to: str) -> tuple[Transaction, StepResult, RecordingSink]:
    """One step with these recipients."""
    tx, sink = make_transaction(), RecordingSink()
    result = await make_chain(items, sink, context()).open(tx).step(make_step("ann@a.example", rcpt_to))
    return tx, result, sink


def sent_to(sink: RecordingSink) -> list[str]:
    return [mailbox.address for mailbox in sink.rcpt_to]


# --- address_list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "address", "takes"),
    [
        ({}, "bob@b.example", True),
        ({"domains": ["b.example"]}, "bob@b.example", True),
        ({"domains": ["B.Example"]}, "bob@b.EXAMPLE", True),
        ({"domains": ["b.example"]}, "bob@c.example", False),
        ({"domains": ["b.example"]}, "bob@sub.b.example", False),
        ({"domains": ["bücher.example"]}, "bob@xn--bcher-kva.example", True),
        ({"domains": ["xn--bcher-kva.example"]}, "bob@BÜCHER.example", True),
        ({"prefixes": ["bob"]}, "Bob@anywhere.example", True),
        ({"prefixes": ["BOB"]}, "bob@anywhere.example", True),
        ({"prefixes": ["bob"]}, "bobby@b.example", False),
        ({"prefixes": ["bob"]}, "bob+x@b.example", False),
        ({"prefixes": ["bob"], "delimiter": "+"}, "bob+x@b.example", True),
        ({"prefixes": ["bob"], "delimiter": "+"}, "bob@b.example", True),
        ({"prefixes": ["bob"], "delimiter": "+"}, "bobby+x@b.example", False),
        ({"domains": ["b.example"], "prefixes": ["bob"]}, "bob@c.example", False),
        ({"domains": ["b.c"]}, "a@b.c>", False),
        ({"domains": ["d.e"]}, "a@b.c,d@d.e", False),
        ({"domains": ["c.d"]}, "a b@c.d", False),
        ({"domains": ["c.d"]}, "a..b@c.d", True),
        ({"domains": ["docomo.ne.jp"], "prefixes": ["taro..0511."]}, "taro..0511.@docomo.ne.jp", True),
        ({"prefixes": [".bob"], "delimiter": "+"}, ".bob+x@b.example", True),
        ({"domains": ["mail_1.b.example"]}, "bob@MAIL_1.b.example", True),
        ({"domains": ["c.d"]}, "a b..@c.d", False),
        ({}, "nonsense", False),
        ({}, "Postmaster", True),
        ({"domains": ["b.example"]}, "Postmaster", True),
        ({"domains": ["b.example"], "prefixes": ["PostMaster"]}, "POSTMASTER", True),
        ({"domains": ["b.example"], "prefixes": ["bob"]}, "Postmaster", False),
        ({"domains": ["b.example"]}, "Postmaster2", False),
    ],
)
async def test_address_list_takes_what_is_in_it(options: dict[str, Any], address: str, takes: bool) -> None:
    tx, result, _ = await route([address_list({"endpoint": "gateway"}, **options)], address)
    assert tx.recipients[0].routed is takes
    assert (tx.route is not None) is takes
    assert result.rcpt[0].ok


async def test_address_list_without_destination_rejects() -> None:
    tx, result, sink = await route([address_list(domains=["b.example"])], "bob@b.example", "bob@c.example")
    assert result.rcpt[0] == Response(550, "5.1.1 mailbox does not exist (AddressListPolicy)")
    assert sent_to(sink) == ["bob@c.example"]
    assert tx.route is None


async def test_a_list_that_rejects_leaves_our_postmaster_to_the_others() -> None:
    lists = [address_list(domains=["spam.example"]), address_list({"endpoint": "gateway"}, domains=["b.example"])]
    _, result, sink = await route(lists, "Postmaster")
    assert result.rcpt[0].ok and sent_to(sink) == ["Postmaster"]


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("bob", "has no domain"),
        ("@b.example", "before the @"),
        ("bob@", "behind the @"),
        ("bob@b..example", "empty label"),
        ("bob@b.example.", "empty label"),
        ("bob@b/c.example", "domain holds a character"),
        ("bob@-b.example", "domain holds a character"),
        ("bob@[300.1.1.1]", "no IP address"),
        ("bob@x@b.example", "must not stand there unquoted"),
        ("bob bob@b.example", "must not stand there unquoted"),
        (f"bob@{'b' * 64}.example", "longer than"),
        (f"{'bob' * 400}@b.example", "too long"),
    ],
)
async def test_what_can_be_no_mailbox_is_refused_for_what_is_wrong_with_it(address: str, what: str) -> None:
    policy = {"name": "dest_domain", "destination": {"endpoint": "gateway"}}
    for end in ({"filter": "router"}, RouteGuard()):
        _, result, _ = await route([{"filter": "router", "policy": policy}, end], address)
        [answer] = result.rcpt
        assert (answer.code, answer.enhanced_code) == (553, "5.1.3")
        assert what in answer.message and address not in answer.message


@pytest.mark.parametrize("address", ["a..b@c.example", "a.@c.example", "bob@c_d.example", "Postmaster"])
async def test_what_may_be_a_mailbox_elsewhere_is_only_not_here(address: str) -> None:
    _, result, _ = await route([{"filter": "router"}], address)
    assert result.rcpt[0].enhanced_code == "5.1.1"


async def test_the_route_has_endpoint_hosts_and_the_options_of_both() -> None:
    destination = {
        "endpoint": "gateway",
        "host_list": [{"host": "one", "port": 25}, {"host": "two", "port": 2525}],
        "options": {"b": 2, "c": 2},
    }
    tx, _, _ = await route([address_list(destination)], "bob@b.example")
    assert tx.route is not None
    assert tx.route.endpoint.name == "gateway"
    assert tx.route.hosts == (HostPort("one", 25), HostPort("two", 2525))
    assert tx.route.options == {"a": 1, "b": 2, "c": 2}


async def test_options_of_one_destination_do_not_leak_into_another() -> None:
    leaky = address_list({"endpoint": "gateway", "options": {"b": 2}}, domains=["b.example"])
    plain = {"filter": "router", "destination": {"endpoint": "gateway"}}
    shared, options = context(), []
    for address in ("bob@b.example", "bob@c.example"):
        tx = make_transaction()
        await make_chain([leaky, plain], RecordingSink(), shared).open(tx).step(make_step("a@a.example", [address]))
        assert tx.route is not None
        options.append(dict(tx.route.options))
    assert options == [{"a": 1, "b": 2}, {"a": 1, "b": 1}]
    assert shared.config.rest_endpoint[0].options == {"a": 1, "b": 1}


async def test_options_beside_the_destination_are_the_destinations() -> None:
    options = {"name": "address_list", "options": {"b": 2, "c": 2}, "destination": {"endpoint": "gateway"}}
    tx, _, _ = await route([{"filter": "router", "policy": options}], "bob@b.example")
    assert tx.route is not None
    assert tx.route.options == {"a": 1, "b": 2, "c": 2}


# --- dest_domain ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("bob@b.example", "b.example"),
        ("bob@B.Example", "b.example"),
        ("bob@BÜCHER.example", "xn--bcher-kva.example"),
        ("bob@[192.0.2.7]", "192.0.2.7"),
        ("bob@[IPv6:2001:db8::1]", "2001:db8::1"),
    ],
)
async def test_dest_domain_goes_to_the_domains_own_hosts(address: str, host: str) -> None:
    policy = {"name": "dest_domain", "dest_port": 2525, "destination": {"endpoint": "gateway"}}
    tx, _, _ = await route([{"filter": "router", "policy": policy}], address)
    assert tx.route is not None
    assert tx.route.hosts == (HostPort(host, 2525),)
    assert tx.route.endpoint.name == "gateway"


@pytest.mark.parametrize("address", ["bob", "Postmaster", "@b.example", "bob@b.example.", "bob@b/c.example", ""])
async def test_dest_domain_takes_no_invalid_address(address: str) -> None:
    policy = {"name": "dest_domain", "destination": {"endpoint": "gateway"}}
    tx, _, _ = await route([{"filter": "router", "policy": policy}], address)
    assert not tx.recipients[0].routed


# --- the filter -----------------------------------------------------------------------------------------------------------


async def test_without_policy_and_destination_every_recipient_is_rejected() -> None:
    _, result, sink = await route([{"filter": "router"}], "bob@b.example")
    assert result.rcpt == [Response(550, "5.1.1 mailbox does not exist (RecipientRouterFilter null policy)")]
    assert sent_to(sink) == []


async def test_the_first_router_that_takes_a_recipient_has_it() -> None:
    items = [
        address_list({"endpoint": "app"}, domains=["b.example"]),
        {"filter": "router", "destination": {"endpoint": "gateway"}},
        {"filter": "router"},
    ]
    tx, result, _ = await route(items, "bob@b.example")
    assert tx.route is not None
    assert tx.route.endpoint.name == "app"
    assert result.rcpt[0].ok


async def test_dry_run_takes_the_recipient_and_routes_nothing() -> None:
    for empty in ({}, None):
        items = [{"filter": "router", "destination": empty, "dry_run": True}, {"filter": "router"}]
        tx, result, sink = await route(items, "bob@b.example")
        assert result.rcpt[0].ok
        assert tx.recipients[0].routed
        assert tx.route is None
        assert sent_to(sink) == ["bob@b.example"]


async def test_dry_run_with_a_policy_still_rejects() -> None:
    items = [{**address_list(domains=["b.example"]), "dry_run": True}]
    _, result, _ = await route(items, "bob@b.example")
    assert result.rcpt[0].code == 550


async def test_routing_fails_for_one_recipient_and_not_for_the_other() -> None:
    items = [address_list({"endpoint": "gateway"}, domains=["b.example"]), {"filter": "router"}, RouteGuard()]
    _, result, sink = await route(items, "bob@b.example", "bob@c.example", "eve@b.example")
    assert [r.code for r in result.rcpt] == [250, 550, 250]
    assert sent_to(sink) == ["bob@b.example", "eve@b.example"]


class Broken(RoutingPolicy):
    async def route(self, tx: Transaction, recipient: Recipient) -> Any:
        return "gateway"


async def test_a_policy_that_returns_nonsense_is_a_temporary_failure() -> None:
    _, result, sink = await route([Router(Broken())], "bob@b.example")
    assert result.rcpt[0].code == 451
    assert sent_to(sink) == []


# --- one way for a transaction --------------------------------------------------------------------------------------------

DEST_DOMAIN = {"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "gateway"}}}


async def test_recipients_of_one_way_go_together_and_others_are_asked_to_come_again() -> None:
    tx, result, sink = await route([DEST_DOMAIN, RouteGuard()], "bob@b.example", "bob@c.example", "eve@b.example")
    assert [r.code for r in result.rcpt] == [250, 452, 250]
    assert result.rcpt[1].message.startswith("4.5.3 ")
    assert sent_to(sink) == ["bob@b.example", "eve@b.example"]
    assert tx.route is not None
    assert tx.route.hosts == (HostPort("b.example", 25),)


async def test_the_way_is_fixed_over_steps() -> None:
    tx, sink = make_transaction(), RecordingSink()
    run = make_chain([DEST_DOMAIN, RouteGuard()], sink, context()).open(tx)
    await run.step(make_step("ann@a.example", ["bob@b.example"]))
    result = await run.step(make_step(rcpt_to=["bob@c.example"]))
    assert result.rcpt[0].code == 452
    assert sent_to(sink) == ["bob@b.example"]


async def test_a_recipient_that_a_later_filter_rejects_does_not_fix_the_way() -> None:
    reject = {
        "filter": "policy_action",
        "tag": "t",
        "mode": "PER_RCPT",
        "action": "REJECT",
        "match": {"matcher": "address_list", "which_addr": "rcpt_to", "domains": ["b.example"]},
    }
    tx, result, sink = await route([DEST_DOMAIN, reject, RouteGuard()], "bob@b.example", "bob@c.example")
    assert [r.code for r in result.rcpt] == [550, 250]
    assert sent_to(sink) == ["bob@c.example"]
    assert tx.route is not None
    assert tx.route.hosts == (HostPort("c.example", 25),)


async def test_a_resolved_route_stays_for_the_next_recipient_of_the_same_way() -> None:
    tx, sink = make_transaction(), RecordingSink()
    run = make_chain([DEST_DOMAIN, RouteGuard()], sink, context()).open(tx)
    await run.step(make_step("ann@a.example", ["bob@b.example"]))
    assert tx.route is not None
    resolved = tx.route = Route(tx.route.endpoint, (HostPort("192.0.2.1", 25),))
    result = await run.step(make_step(rcpt_to=["eve@b.example"]))
    assert result.rcpt[0].ok
    assert tx.route is resolved


async def test_nobody_passes_the_guard_on_anothers_route() -> None:
    items = [address_list({"endpoint": "gateway"}, domains=["b.example"]), RouteGuard()]
    _, result, sink = await route(items, "bob@b.example", "bob@c.example")
    assert [r.code for r in result.rcpt] == [250, 550]
    assert sent_to(sink) == ["bob@b.example"]


async def test_nobody_passes_the_guard_without_a_route() -> None:
    _, result, sink = await route([RouteGuard()], "bob@b.example")
    assert result.rcpt == [Response(550, "5.1.1 mailbox does not exist (no route)")]
    assert sent_to(sink) == []


async def test_in_front_of_an_exploder_recipients_may_go_different_ways() -> None:
    """No guard stands there: every recipient gets a transaction, and a way, of its own."""
    _, result, sink = await route([DEST_DOMAIN], "bob@b.example", "bob@c.example")
    assert [r.code for r in result.rcpt] == [250, 250]
    assert sent_to(sink) == ["bob@b.example", "bob@c.example"]


# --- plug-in policies -----------------------------------------------------------------------------------------------------


class Own(RoutingPolicy):
    def __init__(self, answer: Route | Response | None) -> None:
        self.answer = answer
        self.asked: list[Mailbox] = []

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        self.asked.append(recipient.mailbox)
        return self.answer


async def test_a_policy_of_ones_own_routes_rejects_or_passes() -> None:
    here = Route(RestEndpoint(name="here", endpoint="http://here.invalid/"))
    taken, _, _ = await route([Router(Own(here))], "bob@b.example")
    assert taken.route is here
    _, refused, _ = await route([Router(Own(Response(450, "4.2.0 busy")))], "bob@b.example")
    assert refused.rcpt == [Response(450, "4.2.0 busy")]
    passed, _, _ = await route([Router(Own(None))], "bob@b.example")
    assert not passed.recipients[0].routed
