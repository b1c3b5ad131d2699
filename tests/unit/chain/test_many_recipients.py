"""A transaction with many recipients: what each of them costs does not grow with those before it."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from tests.support.chains import RecordingSink, make_chain, make_context, make_transaction, send
from tests.support.hostile import HostileDns

ENDPOINT = {"name": "gateway", "endpoint": "http://gateway.invalid/"}
RESOLVE: dict[str, Any] = {"filter": "dns_resolution", "suffix": ""}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "smarthost": [
        {
            "filter": "router",
            "destination": {"endpoint": "gateway", "host_list": [{"host": "hub.example", "port": 25}]},
        },
        RESOLVE,
    ],
    "own domains": [
        {"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "gateway"}}},
        RESOLVE,
    ],
    "copies": [
        {"filter": "router", "destination": {"endpoint": "gateway"}},
        {"filter": "received_header"},
        {"filter": "policy_action", "tag": "all", "mode": "PER_RCPT", "action": "LOG"},
    ],
}


async def cost(items: list[dict[str, Any]], recipients: int) -> float:
    """Seconds of the processor, the least of three runs."""
    addresses, costs = [f"bob{i}@d{i}.example" for i in range(recipients)], []
    chain = make_chain(items, RecordingSink(), make_context(HostileDns(1), rest_endpoint=[ENDPOINT]))
    for _ in range(3):
        began = process_time()
        result = await send(chain, make_transaction(), rcpt_to=addresses)
        costs.append(process_time() - began)
        assert {answer.code for answer in result.rcpt} == {250}
    return min(costs)


@pytest.mark.parametrize("name", CHAINS)
async def test_what_a_recipient_costs_does_not_grow(name: str) -> None:
    few = await cost(CHAINS[name], 200)
    # Eight times as many cost eight times as much; were each to look at all before it, 64 times.
    assert await cost(CHAINS[name], 1600) < 20 * few
