"""What clients and other tenants hear of trouble behind us: a sentence and the transaction, no hosts, URLs and pages."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from koukan.blob.bodies import BytesBody
from koukan.model import Mailbox, Step
from tests.support.house import LOOPBACK, House, free_port, quick_end
from tests.support.oldserver import OldServer, Seen
from tests.support.rest_client import ANN, MESSAGE, Open, opener
from tests.support.smtp_dialogue import message, send

SECRETS = ("hunter2", "sesame", "/srv/app/mail.py", "Traceback")
BOB = Mailbox("bob@example.com")
PAGE = "<h1>500</h1><pre>Traceback: /srv/app/mail.py line 7, password hunter2</pre>"


@pytest.fixture
async def open_(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    async with opener(monkeypatch) as open_:
        yield open_


def tells(text: str, *secrets: str) -> list[str]:
    return [secret for secret in (*SECRETS, *secrets) if secret in text]


async def test_a_destination_that_is_down(tmp_path: Path, sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()

    def down(document: dict[str, Any]) -> None:
        quick_end(document)
        document["rest_endpoint"][0]["endpoint"] = f"http://user:hunter2@{LOOPBACK}:{port}/inbox?token=sesame"

    caplog.set_level(logging.INFO)
    async with House(tmp_path, sqlite_url, down) as house:
        replies = await send(house.mx, "ann@example.net", ["bob@example.com"], message())
    heard = [str(reply) for reply in replies if reply.code >= 400]
    assert heard and not tells("".join(heard), LOOPBACK, str(port), "inbox")
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert f"{LOOPBACK}:{port}/inbox" in logged and not tells(logged)


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET", "PUT"])
async def test_a_page_of_an_application_stays_in_the_log(
    open_: Open, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with OldServer() as server:

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            if seen.method != method or seen.path.endswith("/cancel"):
                return None
            return web.Response(status=500 if method != "GET" else 403, text=PAGE * 100)

        server.intercept = intercept
        upstream = open_(server.url, rcpt_timeout=3, data_timeout=3)
        results = [await upstream.step(Step(ANN)), await upstream.step(Step(rcpt_to=[BOB]))]
        results.append(await upstream.step(Step(body=BytesBody(MESSAGE))))
    answers = [
        answer for result in results for answer in (result.mail, *result.rcpt, result.data) if answer is not None
    ]
    assert any(answer.temporary for answer in answers)
    assert not tells("".join(map(str, answers)), "127.0.0.1", "/transactions/")
    assert any("500" in record.getMessage() or "403" in record.getMessage() for record in caplog.records)
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)
