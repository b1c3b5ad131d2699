"""Match expressions and copies that cannot work are found when the file is loaded, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.config.files import load_router
from koukan.config.loader import Loaded
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError


def load(tmp_path: Path, *chain: dict[str, Any], **stanzas: Any) -> Loaded[RouterConfig]:
    document = {
        "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
        "storage": {"url": "sqlite:///x", "gc_interval": 60},
        "endpoint": [{"name": "out", "chain": [*chain, {"filter": "rest_output", "static_endpoint": "http://x/"}]}],
        **stanzas,
    }
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_router(str(path))


def problem(tmp_path: Path, *chain: dict[str, Any], **stanzas: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, *chain, **stanzas)
    text = str(raised.value)
    assert "\n" not in text
    return text.removeprefix(f"{tmp_path}/")


def rule(match: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"filter": "policy_action", "tag": "t", "match": match, **options}


def test_an_unknown_matcher_is_an_error_with_line_and_suggestion(tmp_path: Path) -> None:
    text = problem(tmp_path, rule({"all": [{"matcher": "hello"}, {"not": {"matcher": "smtp_tsl"}}]}))
    assert text.startswith("router.yaml:18: endpoint[0].chain[0].match.all[1].not.matcher: ")
    assert text.endswith("there is no matcher 'smtp_tsl'; did you mean 'smtp_tls'?")


def test_an_unknown_matcher_like_nothing_lists_what_there_is(tmp_path: Path) -> None:
    assert "there are: address_list, " in problem(tmp_path, rule({"matcher": "zzz"}))


def test_a_plug_in_matcher_is_known(tmp_path: Path) -> None:
    load(tmp_path, rule({"matcher": "own"}), modules={"transaction_matcher": {"own": "koukan.hello_matcher:match"}})


@pytest.mark.parametrize(
    ("match", "what"),
    [
        ({"matcher": "num_rcpts", "max_rcpts": 1}, "num_rcpts"),
        ({"matcher": "invalid_rcpt_to"}, "invalid_rcpt_to"),
        ({"matcher": "address_list", "which_addr": "rcpt_to"}, "which_addr: rcpt_to"),
        ({"matcher": "dns_resolution", "rcpt_result": "NX"}, "rcpt_result"),
    ],
)
def test_a_matcher_about_one_recipient_needs_its_mode(tmp_path: Path, match: dict[str, Any], what: str) -> None:
    dns = {"filter": "dns_resolution", "suffix": ""}
    text = problem(tmp_path, dns, rule({"any": [match]}))
    assert text.endswith(f"match.any[0]: {what} is about one recipient; the rule needs `mode: PER_RCPT`")
    load(tmp_path, dns, rule({"any": [match]}, mode="PER_RCPT"))


@pytest.mark.parametrize(
    ("match", "what"),
    [
        ({"matcher": "message_validation", "validity_threshold": "HIGH"}, "message_validation"),
        ({"matcher": "dkim_check"}, "dkim_check"),
        ({"matcher": "address_list", "which_addr": "header_from"}, "which_addr: header_from"),
    ],
)
def test_a_matcher_about_the_body_is_no_matter_of_recipients(tmp_path: Path, match: dict[str, Any], what: str) -> None:
    chain = ({"filter": "message_validation"}, {"filter": "dkim_check"})
    text = problem(tmp_path, *chain, rule(match, mode="PER_RCPT"))
    assert f": {what} is known after the body only" in text
    load(tmp_path, *chain, rule(match))


@pytest.mark.parametrize(
    ("match", "needs"),
    [
        ({"matcher": "remote_host"}, "remote_host"),
        ({"matcher": "message_validation"}, "message_validation"),
        ({"matcher": "spf_check"}, "spf_check"),
        ({"matcher": "koukan.remote_host_filter.SpfCheckFilter"}, "spf_check"),
        ({"matcher": "dkim_check"}, "dkim_check"),
        ({"matcher": "dns_resolution"}, "dns_resolution"),
        ({"matcher": "policy_action", "tag": "x"}, "policy_action"),
    ],
)
def test_a_matcher_that_no_filter_feeds_is_worth_a_warning(tmp_path: Path, match: dict[str, Any], needs: str) -> None:
    late = {"filter": "message_validation"}
    (warning,) = load(tmp_path, rule(match), late).warnings
    assert f"no {needs} filter stands before this rule" in warning
    fed = {"filter": needs} if needs != "policy_action" else rule({"matcher": "hello"}, tag="x")
    assert load(tmp_path, fed if needs != "policy_action" else {**fed, "tag": "x"}, rule(match)).warnings == []


def test_a_tag_that_no_rule_has_is_worth_a_warning(tmp_path: Path) -> None:
    first = {**rule({"matcher": "hello"}), "tag": "spam"}
    (warning,) = load(tmp_path, first, rule({"matcher": "policy_action", "tag": "spma"})).warnings
    assert warning.endswith("match.tag: no earlier rule of this chain has tag 'spma'; did you mean 'spam'?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"action": "REJCT"},
            "action: must be REJECT, MATCH or LOG, or a list like [[9, LOG], [1, REJECT]], got 'REJCT'",
        ),
        (
            {"action": ["9:LOG"]},
            "action: must be REJECT, MATCH or LOG, or a list like [[9, LOG], [1, REJECT]], got ['9:",
        ),
        ({"action": [[-1, "LOG"]]}, "action: must be REJECT, MATCH or LOG, or a list like "),
        ({"action": [[float("inf"), "LOG"]]}, "action: must be REJECT, MATCH or LOG, or a list like "),
        ({"action": [[0, "LOG"]]}, "action: the weights must add up to more than zero"),
        ({"code": 250}, "code: input should be greater than or equal to 400, got 250"),
        ({"match": "smtp_tls"}, "match: must be {matcher: NAME}, {not: …}, {any: [… ]} or {all: [… ]}, got 'smtp_tls'"),
        ({"match": {"not": "x"}}, "match.not: must be {matcher: NAME}, {not: …}, {any: [… ]} or {all: [… ]}, got 'x'"),
        ({"match": {"matcher": "num_rcpts"}}, "match.max_rcpts: is required"),
        (
            {"match": {"matcher": "network_address", "cidr": "192.0.2.1/24"}},
            "match.cidr: must be a network like '192.0.2.0/24' or '2001:db8::/32', got '192.0.2.1/24'; "
            "did you mean '192.0.2.0/24'?",
        ),
    ],
)
def test_slips_in_a_rule_are_one_line_each(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    text = problem(tmp_path, {"filter": "policy_action", "tag": "t", **options})
    assert f": endpoint[0].chain[0].{message}" in text


# --- copies without end ---------------------------------------------------------------------------------------------------


def copying(*edges: tuple[str, str]) -> dict[str, Any]:
    """Chains that copy to the sender of another chain."""
    names = sorted({name for edge in edges for name in edge})
    sink = {"filter": "rest_output", "static_endpoint": "http://x/"}
    return {
        "sender": [{"name": name, "output_chain": name} for name in names],
        "endpoint": [
            {"name": n, "chain": [*({"filter": "add_route", "sender": to} for by, to in edges if by == n), sink]}
            for n in names
        ],
    }


@pytest.mark.parametrize("edges", [[("a", "a")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "a")]])
def test_copies_that_come_back_are_an_error(tmp_path: Path, edges: list[tuple[str, str]]) -> None:
    with pytest.raises(ConfigError, match="would come back to this chain"):
        load(tmp_path, **copying(*edges))


def test_copies_of_copies_that_end_are_fine(tmp_path: Path) -> None:
    load(tmp_path, **copying(("a", "b"), ("a", "c"), ("b", "c")))
