"""A message that takes routers down: it is held with its reason, everybody can see that, and it can be let go again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.smtp_dialogue import message, send
from tests.support.stores import crash, open_store, opened, sql, transaction
from tests.support.wire import Peer, View


async def take_down_three(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.keep([transaction("poison")])
    for _ in range(3):
        victim = await open_store(database_url)
        await victim.succeed()
        await victim.claim(1)
        await crash(victim)
    async with opened(database_url) as store:
        await store.succeed()


async def test_a_quarantined_message_is_seen_and_can_be_let_go(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await take_down_three(database_url)
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.getMessage().startswith("poison: quarantined: ")

    async with House(tmp_path, database_url) as house:
        assert (await send(house.mx, "ann@example.net", ["bob@example.com"], message("other")))[-1].code == 250
        peer = Peer(house.rest)
        peer.views["/transactions/poison"] = View({})
        seen = (await peer.get(f"{house.rest}/transactions/poison")).json
        assert seen["mail_response"]["code"] == 451 and "quarantined" in seen["mail_response"]["message"]
        assert seen["attempt_count"] == 3 and "final_attempt_reason" not in seen
        assert [mail.subject for mail in house.sink.received] == ["other"]

        await sql(house.router.store, "UPDATE queue SET held = NULL, crashes = 0")
        await house.arrived(2)
        assert house.sink.received[1].subject == "test"
