"""Blobs belong to whoever uploads them: those of one recipient are reused for others, whatever became of the first."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, quick_end
from tests.support.wire import JSON, Peer, body_uri, request

REPORT = b"%PDF-1.4\n" + bytes(range(256)) * 200
MESSAGE = b"From: ann@example.net\r\nSubject: shared\r\n\r\nHello\r\n"
PERMFAIL = "upstream rcpt_response permfail"


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, database_url, quick_end, quick_end) as house:
        yield house


@pytest.fixture
def peer(house: House) -> Peer:
    return Peer(house.rest)


def envelope(rcpt_to: str, tag: str | None) -> dict[str, Any]:
    sender = {} if tag is None else {"sender": {"tag": tag}}
    return {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": rcpt_to}], **sender}


def built(text: dict[str, str], file: dict[str, str]) -> dict[str, Any]:
    return {
        "message_builder": {
            "headers": [["from", [{"address": "ann@example.net"}]], ["subject", "shared"]],
            "text_body": [{"content_type": "text/plain", "content": text}],
            "file_attachments": [{"content_type": "application/pdf", "filename": "report.pdf", "content": file}],
        }
    }


def blob_uris(reply: Any) -> dict[str, str]:
    statuses = reply.json["body"]["message_builder"]["blob_status"]
    return {name: status["uri"] for name, status in statuses.items()}


@pytest.mark.parametrize("tag", [None, "once"])
async def test_the_first_recipient_is_refused_before_anything_is_uploaded(
    house: House, peer: Peer, tag: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koukan.router.notification.ORIGINAL_WAIT", 0)
    create = built({"create_id": "text"}, {"create_id": "report"})
    location, created = await peer.create("submission", {**envelope("unknown@example.com", tag), "body": create})
    await peer.until(location, "final_attempt_reason")
    uris = blob_uris(created)
    assert (await peer.put(uris["text"], b"Hello\n")).status == 200
    etag = (await peer.get(location)).headers["etag"]
    half = len(REPORT) // 2
    for first, last in ((0, half), (half, len(REPORT))):
        pieces = {"content-range": f"bytes {first}-{last - 1}/{len(REPORT)}"}
        assert (await peer.put(uris["report"], REPORT[first:last], pieces)).status == 200
    refused = await peer.get(location, etag)
    assert refused.status == 200 and refused.json["final_attempt_reason"] == PERMFAIL
    assert all(status["finalized"] for status in refused.json["body"]["message_builder"]["blob_status"].values())

    reuse = built({"reuse_uri": uris["text"]}, {"reuse_uri": uris["report"]})
    for rcpt in ("bob@example.com", "carl@example.com"):
        other, _ = await peer.create("submission", {**envelope(rcpt, tag), "body": reuse})
        done = await peer.until(other, "final_attempt_reason")
        assert done.json["final_attempt_reason"] == "upstream response success"
    arrived = {mail.rcpt_to[0]: message_from_bytes(mail.content, policy=default) for mail in house.sink.received}
    assert set(arrived) - {"ann@example.net"} == {"bob@example.com", "carl@example.com"}
    for rcpt in ("bob@example.com", "carl@example.com"):
        text, report = arrived[rcpt].iter_parts()
        assert text.get_content() == "Hello\n" and report.get_content() == REPORT


async def test_the_first_recipient_is_refused_in_the_middle_of_the_upload(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", envelope("unknown@example.com", "once"))
    uri, half = body_uri(created), len(MESSAGE) // 2
    head = {"content-range": f"bytes 0-{half - 1}/*"}
    assert (await peer.put(uri, MESSAGE[:half], head)).status == 200
    await peer.until(location, "final_attempt_reason")
    rest = {"content-range": f"bytes {half}-{len(MESSAGE) - 1}/{len(MESSAGE)}"}
    assert (await peer.put(uri, MESSAGE[half:], rest)).status == 200
    assert (await peer.put(uri, MESSAGE)).status == 200  # again, by a client that did not hear the answer
    other, _ = await peer.create("submission", {**envelope("bob@example.com", "once"), "body": {"reuse_uri": uri}})
    await peer.until(other, "final_attempt_reason")
    assert [mail.content.endswith(MESSAGE) for mail in house.sink.received] == [True]


async def test_what_its_client_has_cancelled_takes_no_bytes(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", envelope("bob@example.com", "once"))
    await request("POST", f"{location}/cancel", b"")
    await peer.until(location, "final_attempt_reason")
    assert (await peer.put(body_uri(created), MESSAGE)).status == 409
    reuse = json.dumps({**envelope("carl@example.com", "once"), "body": {"reuse_uri": body_uri(created)}}).encode()
    assert (await request("POST", f"{house.rest}/senders/submission/transactions", reuse, JSON)).status == 400
