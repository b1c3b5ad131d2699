"""A router that stands still for longer than the others wait: they take over, and it knows as soon as it wakes up."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.support.house import becomes, eventually
from tests.support.postgres import PostgresServer
from tests.support.smtp_dialogue import message
from tests.support.town import Town


def short(document: dict[str, Any]) -> None:
    """The others wait for two seconds."""
    document["global"]["drain_timeout"] = 1
    document["storage"]["session_refresh_interval"] = 0.2


async def test_a_router_that_wakes_up_after_its_mail_was_taken_over_sends_nothing_more(
    tmp_path: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    async with Town(tmp_path, postgres_url, short, routers=("one", "two")) as town, aiohttp.ClientSession() as http:
        document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "rcpttimeout@example.com"}]}
        async with http.post(f"{town.rest}/senders/submission/transactions", json=document) as created:
            location = created.headers["location"]
        async with http.put(f"{location}/body", data=message("once")) as uploaded:
            assert uploaded.status == 200
        database = await postgres_server.connect(urlsplit(postgres_url).path[1:])
        [row] = await database.fetch("SELECT session_id, uri FROM queue JOIN sessions s ON s.id = session_id")
        assert row["uri"] == town.rest

        town.signal("one", signal.SIGSTOP)
        town.sink.take("rcpttimeout")
        await eventually(lambda: [mail.subject for mail in town.sink.received] == ["once"], 30)
        ready = town.count("one", "ready")
        town.signal("one", signal.SIGCONT)
        await town.is_ready_again("one", ready)  # it gave up and was started anew

        assert town.count("one", f"session {row['session_id']} is lost") == 1
        await becomes(partial(is_over, database), 10)
        assert [mail.subject for mail in town.sink.received] == ["once"]
        numbers = await database.fetch("SELECT number, session_id FROM attempts")
        assert [(n["number"], n["session_id"] == row["session_id"]) for n in numbers] == [(2, False)]
        await database.close()


async def is_over(database: Any) -> bool:
    return await database.fetchval("SELECT count(*) FROM queue") == 0
