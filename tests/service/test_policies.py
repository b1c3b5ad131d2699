"""Policies through real routers: several refused recipients in one conversation, what receivers learn of matches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, eventually
from tests.support.smtp_dialogue import message, send

POLICY = "koukan.policy_action_filter.PolicyActionFilter"


def rule(match: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"filter": "policy_action", "match": match, **options}


def _with_policies(document: dict[str, Any]) -> None:
    exploder, _, deliver = document["endpoint"]
    refused = {"matcher": "address_list", "which_addr": "rcpt_to", "prefixes": ["refused"], "delimiter": "+"}
    from_example = {"matcher": "address_list", "which_addr": "header_from", "domains": ["example.net"]}
    exploder["chain"].insert(0, rule(refused, tag="refused", mode="PER_RCPT", action="REJECT", code=554))
    deliver["chain"].insert(2, rule(refused, tag="refused", mode="PER_RCPT"))
    deliver["chain"].insert(3, rule(from_example, tag="example-net"))


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url, _with_policies) as house:
        yield house


async def test_refused_recipients_do_not_harm_the_others(house: House) -> None:
    recipients = ["refused+1@example.com", "bob@example.com", "refused+2@example.com", "refused+3@example.com"]
    replies = await send(house.mx, "ann@example.net", recipients, message("for bob"))
    assert [reply.code for reply in replies] == [250, 554, 250, 554, 554, 250]
    assert replies[1].message == "5.6.0 message rejected refused"
    assert [mail.rcpt_to for mail in house.sink.received] == [("bob@example.com",)]


async def test_a_receiver_learns_of_what_matched_at_the_body(house: House) -> None:
    await send(house.mx, "ann@example.net", ["desk@app.example.com"], message("hello"))
    await eventually(lambda: any(r.body is not None for r in house.receiver.transactions.values()))
    [received] = house.receiver.transactions.values()
    assert received.filter_output[POLICY] == {"matched_tags": ["example-net"], "matched_rules": ["example-net"]}
