"""Chains whose mail may fail after it was accepted, and nobody would hear of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.config.files import load_router

ONE_BY_ONE = {
    "filter": "policy_action",
    "tag": "one",
    "mode": "PER_RCPT",
    "match": {"matcher": "num_rcpts", "max_rcpts": 1},
    "action": "REJECT",
    "code": 452,
}
EXPLODER = {"filter": "exploder"}
NOTIFICATION = {"output_handler": {"notification": {"sender": "s", "tag": "each"}}}


def warnings(directory: Path, exploder: list[Any], deliver: dict[str, Any], **more: Any) -> list[str]:
    document = {
        "global": {"mailer_daemon_mailbox": "mailer-daemon@example.com"},
        "rest_listener": {"addr": ["127.0.0.1", 8000], "session_uri": "http://127.0.0.1:8000"},
        "storage": {"url": "sqlite:///x", "gc_interval": 60},
        "sender": [
            {
                "name": "s",
                "tag": [
                    {"name": "all", "output_chain": "exploder", "upstream_tag": "each"},
                    {"name": "each", "output_chain": "deliver"},
                    {"name": "rest", "output_chain": "rest", **more},
                ],
            }
        ],
        "endpoint": [
            {"name": "exploder", "chain": exploder},
            {"name": "deliver", "chain": [{"filter": "router"}, {"filter": "rest_output"}], **deliver},
            {"name": "rest", "chain": [{"filter": "router"}, {"filter": "rest_output"}]},
        ],
    }
    path = directory / "router.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_router(str(path), {}).warnings


@pytest.mark.parametrize(
    ("exploder", "deliver", "more", "place"),
    [
        ([EXPLODER], {}, {}, "endpoint[1]"),
        ([EXPLODER], NOTIFICATION, {}, None),
        # a relay that takes one recipient a message passes every answer on; a submission server queues all the same
        ([ONE_BY_ONE, EXPLODER], {}, {}, None),
        ([ONE_BY_ONE, {**EXPLODER, "msa": True}], {}, {}, "endpoint[1]"),
        ([{**ONE_BY_ONE, "match": {"matcher": "num_rcpts", "max_rcpts": 2}}, EXPLODER], {}, {}, "endpoint[1]"),
        ([EXPLODER], NOTIFICATION, {"notification": "output_chain"}, "endpoint[2]"),
    ],
)
def test_nobody_would_hear_of_a_failure(
    exploder: list[Any], deliver: dict[str, Any], more: dict[str, Any], place: str | None, tmp_path: Path
) -> None:
    found = warnings(tmp_path, exploder, deliver, **more)
    assert len(found) == (place is not None)
    assert all(f" {place}: has no output_handler.notification" in line for line in found), found
