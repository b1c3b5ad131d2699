"""Warnings of what starts and can only be a slip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.config.files import load_router

BASE: dict[str, Any] = {
    "global": {"mailer_daemon_mailbox": "mailer-daemon@example.com"},
    "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:8000"},
    "storage": {"url": "sqlite:///koukan.db", "gc_interval": 300},
    "sender": [
        {
            "name": "apps",
            "output_chain": "out",
            "retry": "output_chain",
            "notification": "output_chain",
            "tag": [{"name": "bounces", "notification": None}],
        }
    ],
    "rest_endpoint": [{"name": "gateway", "endpoint": "http://127.0.0.1:8001/senders/r/transactions", "sender": "r"}],
    "endpoint": [
        {
            "name": "out",
            "output_handler": {"notification": {"sender": "apps", "tag": "bounces"}},
            "chain": [
                {"filter": "message_builder"},
                {"filter": "router", "destination": {"endpoint": "gateway"}},
                {"filter": "rest_output"},
            ],
        }
    ],
}


def warnings(change: Callable[[dict[str, Any]], None], directory: Path) -> list[str]:
    document = yaml.safe_load(yaml.safe_dump(BASE))
    change(document)
    file = directory / "router.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return [str(warning) for warning in load_router(str(file), {}).warnings]


def test_what_is_meant_is_no_slip(tmp_path: Path) -> None:
    def meant(document: dict[str, Any]) -> None:
        options = {"receive_parsing": {"max_inline": 1000}, "send_filter_output": True}
        document["rest_endpoint"][0]["options"] = options
        dry = {"filter": "router", "dry_run": True, "destination": {}}
        own = {"name": "address_list", "domains": ["example.com"], "destination": {"endpoint": "gateway"}}
        document["endpoint"][0]["chain"][1:1] = [dry, dry, {"filter": "router", "policy": own}]

    assert warnings(lambda document: None, tmp_path) == []
    assert warnings(meant, tmp_path) == []


def _put(document: dict[str, Any], path: str, value: object) -> None:
    place: Any = document
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in parents:
        place = place[key]
    place[last] = value


ADDRESSES = {"name": "address_list", "destination": {"endpoint": "gateway"}}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("rest_endpoint.0.options", {"recieve_parsing": {}}, "did you mean 'receive_parsing'"),
        ("rest_endpoint.0.options", {"receive_parsing": {"max_inlne": 9}}, "did you mean 'max_inline'"),
        ("rest_endpoint.0.options", {"parse": True}, "there are: receive_parsing, send_filter_output"),
        ("rest_endpoint.0.endpoint", "127.0.0.1:8001/senders/r/transactions", "begins with http:// or https://"),
        (
            "endpoint.0.chain.1.destination",
            {"endpoint": "gateway", "options": {"send_filter_outputs": True}},
            "did you mean 'send_filter_output'",
        ),
        (
            "endpoint.0.chain.1",
            {"filter": "router", "policy": {**ADDRESSES, "domains": ["@example.com"]}},
            "write 'example.com'",
        ),
        (
            "endpoint.0.chain.0",
            {
                "filter": "policy_action",
                "tag": "t",
                "action": "REJECT",
                "match": {"matcher": "address_list", "domains": ["a@b.example"]},
            },
            "write 'b.example'",
        ),
        (
            "endpoint.0.chain.0",
            {"filter": "router", "destination": {"endpoint": "gateway"}},
            "chain[0] takes, or rejects",
        ),
        ("endpoint.0.chain.0", {"filter": "received_header"}, "has no message_builder"),
    ],
)
def test_slips(path: str, value: object, text: str, tmp_path: Path) -> None:
    found = warnings(lambda document: _put(document, path, value), tmp_path)
    assert [warning for warning in found if text in warning], found
