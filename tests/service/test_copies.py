"""Copies of add_route through real routers: to an application, in both modes, once however often the original is tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.house import House, eventually
from tests.support.smtp_dialogue import message, send


def _with_copies(document: dict[str, Any], *, stored: bool) -> None:
    deliver = document["endpoint"][2]
    deliver["chain"].insert(2, {"filter": "add_route", "sender": "archive", "tag": "copy", "store_and_forward": stored})
    document["endpoint"].append(
        {
            "name": "archive",
            "chain": [{"filter": "router", "destination": {"endpoint": "receiver"}}, {"filter": "rest_output"}],
        }
    )
    document["sender"].append(
        {"name": "archive", "tag": [{"name": "copy", "output_chain": "archive", "retry": "output_chain"}]}
    )


@pytest.fixture(params=[False, True], ids=["waited", "queued"])
async def house(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, database_url, lambda document: _with_copies(document, stored=request.param)) as house:
        yield house


def copies(house: House) -> list[bytes]:
    """What the application has received completely."""
    return [received.body for received in house.receiver.transactions.values() if received.body is not None]


async def test_sender_and_application_both_get_it(house: House) -> None:
    replies = await send(house.mx, "ann@example.net", ["bob@example.com"], message("both"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    await eventually(lambda: len(copies(house)) == 1)
    assert [mail.subject for mail in house.sink.received] == ["both"]
    assert copies(house)[0].endswith(message("both"))
    [received] = [r for r in house.receiver.transactions.values() if r.body is not None]
    assert received.envelope["mail_from"] == {"m": "ann@example.net"}
    assert received.envelope["rcpt_to"] == [{"m": "bob@example.com"}]


async def test_a_retry_sends_no_second_copy(house: House) -> None:
    async with aiohttp.ClientSession() as client:
        document = {
            "mail_from": {"m": "ann@example.net"},
            "rcpt_to": [{"m": "datatemp@example.com"}],
            "body": {"inline": message("again").decode()},
        }
        async with client.post(f"{house.rest}/senders/submission/transactions", json=document) as created:
            assert created.status == 201
            location = created.headers["Location"]

        attempts = 1
        while attempts < 3:
            async with client.get(location, headers={"Request-Timeout": "5"}) as shown:
                attempts = (await shown.json())["attempt_count"] if shown.status == 200 else attempts
        await eventually(lambda: len(copies(house)) >= 1)
    assert house.sink.received == []
    assert [copy.endswith(message("again")) for copy in copies(house)] == [True]
