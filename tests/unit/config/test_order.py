"""Filters in any order start; where an order is probably a slip, a warning says so with file and line."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config.files import load_router
from koukan.router.chains import check_chains

GATEWAY = {"name": "gateway", "endpoint": "http://127.0.0.1:1/", "sender": "router"}
LOCAL = {"name": "address_list", "domains": ["example.com"], "destination": {"endpoint": "gateway"}}
MANUAL = {**LOCAL, "destination": {"endpoint": "gateway", "host_list": [{"host": "hub.example.com", "port": 25}]}}
LITERAL = {**LOCAL, "destination": {"endpoint": "gateway", "host_list": [{"host": "2001:db8::1", "port": 25}]}}
AWAY = {"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "gateway"}}}
REST: dict[str, Any] = {"filter": "rest_output"}
EXPLODER: dict[str, Any] = {"filter": "exploder"}
DNS = {"filter": "dns_resolution", "suffix": ""}
NX = {"matcher": "dns_resolution", "mail_result": "NX"}
RULE = {"filter": "policy_action", "tag": "dns", "match": NX, "action": "REJECT"}
REJECT_ALL = {"filter": "router"}


def router(policy: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"filter": "router", "policy": policy, **options}


def warnings(tmp_path: Path, *chain: str | dict[str, Any]) -> list[str]:
    """The warnings about a chain that starts, without their place but for the position in the chain."""
    items = [{"filter": item} if isinstance(item, str) else item for item in chain]
    document = {
        "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
        "storage": {"url": "sqlite:///x", "gc_interval": 60},
        "rest_endpoint": [GATEWAY, {"name": "bare"}],
        "endpoint": [{"name": "out", "chain": items}],
    }
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    loaded = load_router(str(path))
    check_chains(Context(loaded.config), Plugins.load(loaded.config.modules))
    return [line.partition("endpoint[0].")[2] for line in loaded.warnings]


@pytest.mark.parametrize(
    "chain",
    [
        # the envelope is checked before it is routed
        (DNS, RULE, router(LOCAL, dry_run=True), REJECT_ALL, EXPLODER),
        (DNS, RULE, router(LOCAL), AWAY, REJECT_ALL, DNS, REST),
        (DNS, RULE, router(LITERAL), REJECT_ALL, REST),
        (DNS, router(MANUAL, dry_run=True), router(LOCAL), REJECT_ALL, REST),
        ({**DNS, "static_hosts": [{"host": "127.0.0.1", "port": 25}]}, RULE, AWAY, EXPLODER),
        (router(MANUAL), DNS, RULE, AWAY, DNS, RULE, REST),
        # two of a kind, and what only judges before what builds
        (
            "message_validation",
            "dkim_check",
            "message_builder",
            "received_header",
            "message_validation",
            AWAY,
            DNS,
            REST,
        ),
        ("dkim_sign", "received_header", AWAY, DNS, REST),
        ("received_header", "remote_host", AWAY, DNS, "message_parser", REST),
        ("message_parser", AWAY, DNS, REST),
        # where mail does not go by its route, a router only says who is here
        (router({**LOCAL, "destination": None}), REJECT_ALL, EXPLODER),
        (router({**LOCAL, "destination": {"endpoint": "bare"}}), REJECT_ALL, EXPLODER),
        (router({**LOCAL, "destination": {"endpoint": "bare"}}, dry_run=True), AWAY, DNS, REST),
        (AWAY, {**REST, "static_endpoint": "gateway"}),
        # a list of everybody is the end of a chain too
        (router(LOCAL), router({"name": "address_list"}), REST),
    ],
)
def test_usual_chains_start_without_a_word(tmp_path: Path, chain: tuple[Any, ...]) -> None:
    assert warnings(tmp_path, *chain) == []


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (
            ("received_header", "message_builder", AWAY, REST),
            "chain[0]: received_header does nothing for what message_builder makes, which passes it as a document; "
            "put message_builder before it",
        ),
        (
            ({"filter": "authentication_results", "authserv_id": "mx"}, "message_builder", AWAY, REST),
            "chain[0]: authentication_results does nothing for what message_builder makes, which passes it as a document; "
            "put message_builder before it",
        ),
        (
            (AWAY, "message_parser", "received_header", REST),
            "chain[2]: received_header changes the message after message_parser: receivers do not get what was parsed; "
            "put message_parser behind it",
        ),
        (
            (DNS, AWAY, REST),
            "chain[1]: no dns_resolution stands behind this router: nobody resolves the hosts that it names",
        ),
        (
            (router(LOCAL), DNS, router(MANUAL), REJECT_ALL, REST),
            "chain[2]: no dns_resolution stands behind this router: nobody resolves the hosts that it names",
        ),
        (
            (RULE, DNS, EXPLODER),
            "chain[0].match: no dns_resolution filter stands before this rule: the matcher is decided a moment later than it "
            "could be, or never",
        ),
    ],
)
def test_what_is_probably_a_slip_is_a_warning(tmp_path: Path, chain: tuple[Any, ...], expected: str) -> None:
    assert warnings(tmp_path, *chain) == [expected]


def test_filters_start_in_every_order(tmp_path: Path) -> None:
    """Two of each pair of filters, in both orders, before either sink."""
    kinds: list[dict[str, Any]] = [
        *(
            {"filter": name}
            for name in ("remote_host", "message_builder", "message_parser", "message_validation", "received_header")
        ),
        *({"filter": name} for name in ("dkim_sign", "dkim_check", "spf_check", "relay_auth", "add_route", "hello")),
        {"filter": "authentication_results", "authserv_id": "mx.example.com"},
        *(DNS, RULE, AWAY, router(LOCAL, dry_run=True), REJECT_ALL),
    ]
    for first, second in itertools.permutations(kinds, 2):
        for sink in (REST, EXPLODER):
            warnings(tmp_path, first, second, first, sink)
