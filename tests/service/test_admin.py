"""What operators see: /metrics, /healthz and /readyz on the admin listener, and one log line for each outcome."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.house import LOOPBACK, House, eventually, free_port
from tests.support.smtp_dialogue import message, send

NAMES = {
    "koukan_transactions",
    "koukan_attempts",
    "koukan_replies",
    "koukan_bounces",
    "koukan_kept",
    "koukan_stale_attempts",
    "koukan_transactions_inflight",
    "koukan_queue_depth",
    "koukan_queue_oldest_due_seconds",
    "koukan_sessions",
    "koukan_transaction_seconds",
}


class Admin:
    """A client of the admin listeners."""

    def __init__(self, http: aiohttp.ClientSession, ports: dict[str, int]) -> None:
        self._http = http
        self._ports = ports

    async def get(self, program: str, path: str) -> tuple[int, str]:
        async with self._http.get(f"http://{LOOPBACK}:{self._ports[program]}{path}") as answer:
            return answer.status, await answer.text()

    async def values(self) -> dict[str, float]:
        """The samples by name and labels. Both programs of this test process count in one registry."""
        status, text = await self.get("router", "/metrics")
        assert status == 200
        return {key: float(value) for key, value in re.findall(r"^(koukan\S+) (\S+)$", text, re.MULTILINE)}


@pytest.fixture
def ports() -> dict[str, int]:
    return {"router": free_port(), "gateway": free_port()}


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str, ports: dict[str, int]) -> AsyncIterator[House]:
    def listen(program: str, document: dict[str, Any]) -> None:
        document["admin_listener"] = {"addr": [LOOPBACK, ports[program]]}

    async with House(
        tmp_path, sqlite_url, lambda router: listen("router", router), lambda gateway: listen("gateway", gateway)
    ) as house:
        yield house


@pytest.fixture
async def admin(ports: dict[str, int]) -> AsyncIterator[Admin]:
    async with aiohttp.ClientSession() as http:
        yield Admin(http, ports)


async def test_metrics_after_one_message_delivered_and_one_refused(house: House, admin: Admin) -> None:
    _, text = await admin.get("gateway", "/metrics")
    assert set(re.findall(r"^# TYPE (\S+?)(?:_total)? (?:counter|gauge|histogram)$", text, re.MULTILINE)) >= NAMES
    before = await admin.values()

    assert [r.code for r in await send(house.mx, "ann@example.net", ["bob@example.com"], message("one"))] == [250] * 3
    replies = await send(house.mx, "ann@example.net", ["unknown@example.com"], message("two"))
    assert replies[1].code == 550
    await eventually(lambda: not house.router.dispatcher.busy and not house.gateway.service.busy)

    after = await admin.values()
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grown['koukan_transactions_total{kind="interactive"}'] == 2
    assert grown['koukan_transactions_total{kind="smtp_out"}'] == 2
    assert grown['koukan_attempts_total{result="ok"}'] == 2  # the router's and the gateway's
    assert grown['koukan_attempts_total{result="failed"}'] == 2
    assert grown['koukan_replies_total{class="5xx",command="rcpt"}'] >= 1
    assert grown['koukan_replies_total{class="2xx",command="data"}'] >= 1
    assert grown['koukan_transaction_seconds_count{kind="interactive"}'] == 2
    assert not any(key.startswith(("koukan_bounces", "koukan_kept", "koukan_stale")) for key in grown)


async def test_health_and_readiness(house: House, admin: Admin) -> None:
    for program in ("router", "gateway"):
        assert await admin.get(program, "/healthz") == (200, "ok\n")
        assert await admin.get(program, "/readyz") == (200, "ok\n")
    house.router.service.drain()
    house.gateway.service.drain()
    for program in ("router", "gateway"):
        assert await admin.get(program, "/healthz") == (200, "ok\n")
        assert await admin.get(program, "/readyz") == (503, "draining\n")


async def test_one_line_for_each_outcome_and_never_the_content(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "the password is swordfish"
    for recipient in ("bob@example.com", "dataperm@example.com"):
        await send(house.mx, "ann@example.net", [recipient], message("do not tell", f"{secret}\r\n"))
    await eventually(lambda: not house.router.dispatcher.busy and not house.gateway.service.busy)
    outcomes = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "transaction"]
    assert [(line["rcpt_to"], line["result"]) for line in outcomes] == [
        ("bob@example.com", "ok"),
        ("dataperm@example.com", "failed"),
    ]
    for line in outcomes:
        assert line["mail_from"] == "ann@example.net" and line["id"] and line["seconds"] >= 0 and line["answer"]
    for record in caplog.records:
        if record.name == "mail.log":
            continue  # the sink of this test; the programs keep that one quiet
        assert secret not in str(vars(record)) and "do not tell" not in str(vars(record))
