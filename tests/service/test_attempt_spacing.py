"""min_attempt_time holds, whatever arrives between two attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koukan.storage.statement import Statement
from tests.support.house import House, becomes, eventually, quick_end
from tests.support.oldserver import OldServer
from tests.support.wire import Peer, request

LATER = {"code": 451, "message": "4.2.0 later"}
SPEC = {
    "headers": [["from", [{"address": "ann@example.net"}]]],
    "text_body": [{"content_type": "text/plain", "content": {"create_id": "text"}}],
}


def patient(document: dict[str, Any]) -> None:
    quick_end(document)
    document["endpoint"][2]["output_handler"]["retry_params"].update(min_attempt_time=30, max_attempt_time=60)


async def due_in(house: House, tx_id: str) -> float | None:
    """Seconds until the next attempt; None while it is not known."""
    database = house.router.store._database
    rows = await database.fetch(
        Statement(
            "SELECT due_at - {now} AS seconds FROM queue JOIN transactions ON id = tx_id "
            "WHERE rest_id = $1 AND session_id IS NULL AND due_at IS NOT NULL"
        ),
        tx_id,
    )
    return float(rows[0]["seconds"]) if rows else None


@pytest.mark.parametrize("refused_by", ["smtp", "application"])
async def test_bytes_that_come_after_a_refused_recipient(tmp_path: Path, database_url: str, refused_by: str) -> None:
    async with OldServer(rcpt=[LATER] * 9) as app:

        def change(document: dict[str, Any]) -> None:
            patient(document)
            document["rest_endpoint"][1]["endpoint"] = app.url

        async with House(tmp_path, database_url, change) as house:
            peer = Peer(house.rest)
            recipient = "rcpttemp@example.com" if refused_by == "smtp" else "desk@app.example.com"
            document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": recipient}]}
            location, _ = await peer.create("submission", {**document, "body": {"message_builder": SPEC}})
            await eventually(lambda: not house.router.dispatcher.busy)
            assert (await request("GET", location)).json["rcpt_response"][0]["code"] // 100 == 4
            assert (await request("PUT", f"{location}/blob/text", b"hello")).status == 200

            async def scheduled() -> bool:
                return await due_in(house, location.rpartition("/")[2]) is not None

            await becomes(scheduled)
            wait = await due_in(house, location.rpartition("/")[2])
            assert wait is not None and wait > 20
            assert (await request("GET", location)).json["attempt_count"] == 1
