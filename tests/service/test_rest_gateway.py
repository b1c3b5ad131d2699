"""The gateway's REST API as strict peers see it (rest-api.md §1-6, §10, §11); its SMTP side does as it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.model import HostPort, Mailbox, Response, Step
from koukan.rest.client import RestUpstream
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, Target
from koukan.rest.resource import Resource
from tests.support.gateway_double import Gateway
from tests.support.house import LOOPBACK, eventually
from tests.support.wire import JSON, request

ENVELOPE = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "bob@example.com"}], "sender": {"tag": "out"}}
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_one_shot(gateway: Gateway) -> None:
    peer = gateway.peer
    hosts = {"remote_host": ["192.0.2.1", 25], "local_host": ["198.51.100.1", 587]}
    meta = {"smtp_meta": {"ehlo_host": "x", "esmtp": True, "tls": False, "auth": None}}
    location, created = await peer.create("router", {**ENVELOPE, **hosts, **meta, "filter_output": {"a.B": {}}})
    assert location.startswith(f"{gateway.base}/transactions/")
    assert "attempt_count" not in created.json
    answered = await peer.until(location, "rcpt_response")
    uri = answered.json["body"]["blob_status"]["uri"]
    put = await peer.put(uri, MESSAGE)
    assert (put.status, put.body) == (200, b"{}")
    assert put.headers["content-range"] == f"bytes 0-{len(MESSAGE) - 1}/{len(MESSAGE)}"
    assert (await peer.get(location)).json["body"]["blob_status"]["finalized"] is True
    done = await peer.until(location, "data_response")
    assert done.json["data_response"] == {"code": 250, "message": "data ok"}
    assert gateway.smtp[0].content == MESSAGE and gateway.smtp[0].host == HostPort("192.0.2.1", 25)


async def test_interactive_with_recipients_one_by_one(gateway: Gateway) -> None:
    peer = gateway.peer
    location, reply = await peer.create("any", {"mail_from": {"m": ""}, "sender": {"name": "x", "tag": "out"}})
    reply = await peer.until(location, "mail_response")
    for number, rcpt in enumerate(["bob@example.com", "carl@example.com"]):
        offset = {"rcpt_to_list_offset": number} if number else {}
        reply = await peer.patch(location, reply.headers["etag"], {"rcpt_to": [{"m": rcpt}], **offset})
        assert reply.status == 200
        reply = await peer.until(location, "rcpt_response", number + 1)
    assert [r["message"] for r in reply.json["rcpt_response"]] == ["bob@example.com ok", "carl@example.com ok"]
    await peer.put(f"{location}/body", MESSAGE)
    assert (await peer.get(location)).json["body"]["blob_status"]["finalized"] is True
    await eventually(lambda: gateway.smtp[0].content == MESSAGE, 5)


async def test_a_long_poll_waits_for_the_change_and_no_longer(gateway: Gateway) -> None:
    gateway.hold = True
    location, created = await gateway.peer.create("r", ENVELOPE)
    etag = created.headers["etag"]
    while (seen := await gateway.peer.get(location, etag, 1)).status == 200:
        etag = seen.headers["etag"]
    started = time.monotonic()
    waiting = asyncio.ensure_future(gateway.peer.get(location, etag, 20))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    gateway.smtp[0].go.set()
    answered = await waiting
    assert answered.status == 200 and "mail_response" in answered.json and time.monotonic() - started < 10


@pytest.mark.parametrize("quoted", [False, True])
async def test_a_long_poll_without_change_is_answered_304_in_time(gateway: Gateway, quoted: bool) -> None:
    location, created = await gateway.peer.create("r", {"sender": {"tag": "out"}})
    etag = f'"{created.headers["etag"]}"' if quoted else created.headers["etag"]
    started = time.monotonic()
    reply = await gateway.peer.get(location, etag, 1)
    assert reply.status == 304 and 0.9 < time.monotonic() - started < 5


async def test_prefer_wait_brings_the_answers_along(gateway: Gateway) -> None:
    gateway.hold = True
    asyncio.get_running_loop().call_later(0.3, lambda: gateway.smtp[0].go.set() if gateway.smtp else None)
    location, reply = await gateway.peer.create("r", ENVELOPE, {"prefer": "respond-async, wait=10"})
    assert reply.headers["preference-applied"] == "wait=10"
    assert reply.json["rcpt_response"] == [{"code": 250, "message": "bob@example.com ok"}]
    reply = await gateway.peer.put(f"{location}/body", MESSAGE, {"prefer": "wait=10"})
    assert reply.json["data_response"]["code"] == 250 and reply.headers["etag"]
    gateway.hold = True
    _, reply = await gateway.peer.create("r", ENVELOPE, {"prefer": "wait=1"})
    assert "mail_response" not in reply.json and reply.headers["preference-applied"] == "wait=1"


async def test_chunks_are_appended_in_order_only(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    uri = f"{location}/body"

    async def put(first: int, data: bytes, total: str) -> tuple[int, str | None]:
        reply = await gateway.peer.put(uri, data, {"content-range": f"bytes {first}-{first + len(data) - 1}/{total}"})
        return reply.status, reply.headers.get("content-range")

    assert await put(5, b"x", "*") == (404, None)
    assert await put(0, b"01234", "*") == (200, "bytes 0-4/*")
    assert await put(6, b"x", "*") == (416, "bytes 0-4/*")  # a gap
    assert await put(3, b"3456", "*") == (416, "bytes 0-4/*")  # what has been sent cannot be sent again
    assert await put(5, b"567", "10") == (200, "bytes 0-7/10")
    assert await put(8, b"89", "11") == (416, "bytes 0-7/10")
    assert await put(8, b"89", "*") == (416, "bytes 0-7/10")
    assert await put(8, b"89", "10") == (200, "bytes 0-9/10")
    await eventually(lambda: gateway.smtp[0].content == b"0123456789", 5)


async def test_a_body_is_finished_afterwards(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    uri = f"{location}/body"
    await gateway.peer.put(uri, b"01234", {"content-range": "bytes 0-4/*"})
    for length in ("4", "6"):
        reply = await gateway.peer.put(uri, b"", {"x-finalize-blob-length": length})
        assert reply.status == 416 and reply.headers["content-range"] == "bytes 0-4/*"
    for length, body in (("five", b""), ("5", b"x")):
        assert (await gateway.peer.put(uri, body, {"x-finalize-blob-length": length})).status == 400
    reply = await gateway.peer.put(uri, b"", {"x-finalize-blob-length": "5"})
    assert reply.status == 200 and reply.headers["content-range"] == "bytes 0-4/5"
    await eventually(lambda: gateway.smtp[0].content == b"01234", 5)


@pytest.mark.parametrize("chunks", [[MESSAGE], [MESSAGE[:5], MESSAGE[5:]], []])
async def test_chunked_transfer_encoding_is_the_whole_body(gateway: Gateway, chunks: list[bytes]) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    reply = await gateway.peer.put(f"{location}/body", b"", {"content-range": "bytes 5-6/7"}, chunks=chunks)
    assert reply.status == 200
    assert (await gateway.peer.get(location)).json["body"]["blob_status"]["finalized"] is True
    await eventually(lambda: gateway.smtp[0].content == b"".join(chunks), 5)


async def test_an_empty_body(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    reply = await gateway.peer.put(f"{location}/body", b"")
    assert reply.status == 200 and "content-range" not in reply.headers
    await eventually(lambda: gateway.smtp[0].content == b"", 5)


async def test_a_whole_message_in_the_create_request(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    await eventually(lambda: gateway.smtp[0].content == MESSAGE, 5)
    assert (await gateway.peer.get(location)).json["body"]["blob_status"]["finalized"] is True


async def test_an_upload_that_breaks_off_finishes_nothing(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    reader, writer = await asyncio.open_connection(LOOPBACK, gateway.server.address.port)
    path = location.removeprefix(gateway.base)
    writer.write(f"PUT {path}/body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n".encode() + bytes(950_000))
    await writer.drain()
    await eventually(lambda: any(step.body is not None for step in gateway.smtp[0].steps), 5)
    writer.close()
    await eventually(lambda: gateway.smtp[0].broken, 5)
    assert gateway.smtp[0].content is None
    del reader


async def test_cancel_ends_the_conversation_once(gateway: Gateway) -> None:
    location, created = await gateway.peer.create("r", ENVELOPE)
    for _ in range(2):
        reply = await request("POST", f"{location}/cancel", b"")
        assert (reply.status, reply.body) == (200, b"")
    await eventually(lambda: gateway.smtp[0].cancelled == 1, 5)
    seen = await gateway.peer.get(location)
    assert seen.json["cancelled"] is True
    refused = await gateway.peer.put(f"{location}/body", MESSAGE)
    assert refused.status == 409
    reply = await gateway.peer.patch(location, seen.headers["etag"], {"rcpt_to": [{"m": "x@y"}]})
    assert reply.status in (400, 409)
    assert created.headers["etag"] != seen.headers["etag"]


async def test_who_falls_silent_is_forgotten_and_his_conversation_ended() -> None:
    gateway = Gateway(idle=0.3)
    await gateway.start()
    location, _ = await gateway.peer.create("r", {"mail_from": {"m": "a@b"}, "sender": {"tag": "out"}})
    await eventually(lambda: gateway.smtp[0].cancelled == 1, 5)
    while (reply := await request("GET", location)).status != 404:
        assert reply.status == 200
        await asyncio.sleep(0.05)
    assert gateway.service.busy == 0
    await gateway.stop()


async def test_heartbeats(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", {"mail_from": {"m": "a@b"}, "sender": {"tag": "out"}})
    reply = await gateway.peer.until(location, "mail_response")
    before = reply.headers["etag"]
    reply = await gateway.peer.patch(location, before)
    assert reply.status == 200 and reply.headers["etag"] != before
    assert (await gateway.peer.patch(location, before)).status == 412
    assert (await request("PATCH", location, b"")).status == 400  # if-match is required for heartbeats too


@pytest.mark.parametrize("path", ["", "/cancel", "/body", "/blob/x"])
async def test_an_unknown_transaction_is_404_everywhere(gateway: Gateway, path: str) -> None:
    url = f"{gateway.base}/transactions/unknown{path}"
    methods = {"": ["GET", "PATCH"], "/cancel": ["POST"]}.get(path, ["PUT"])
    for method in methods:
        body = None if method == "GET" else b""
        reply = await request(method, url, body, {"if-match": "1", "if-none-match": "1"})
        assert reply.status == 404, (method, reply.text)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"sender": {"tag": "nobody"}}, "sender.tag"),
        ({}, "sender.tag"),
        ({**ENVELOPE, "retry": {}}, "retry"),
        ({**ENVELOPE, "mail_from": {"a": "b"}}, "mail_from"),
        ({**ENVELOPE, "mail_from": "ann@example.net"}, "mail_from"),
        ({**ENVELOPE, "mail_from": None}, "mail_from"),
        ({**ENVELOPE, "rcpt_to": []}, "rcpt_to"),
        ({**ENVELOPE, "rcpt_to": {"m": "x"}}, "rcpt_to"),
        ({**ENVELOPE, "rcpt_to": [{"m": "x@y\r\nDATA"}]}, "rcpt_to[0].m"),
        ({**ENVELOPE, "rcpt_to": [{"m": "x", "e": ["SIZE"]}]}, "rcpt_to[0].e[0]"),
        ({**ENVELOPE, "remote_host": "192.0.2.1"}, "remote_host"),
        ({**ENVELOPE, "remote_host": ["192.0.2.1", "25"]}, "remote_host[1]"),
        ({**ENVELOPE, "sender": {"tag": "out", "x": 1}}, "sender.x"),
        ({**ENVELOPE, "body": {"message_builder": {"headers": []}}}, "body"),
        ({**ENVELOPE, "body": {"reuse_uri": "/transactions/x/body"}}, "body"),
        ([], ""),
        ("x", ""),
        (1, ""),
    ],
)
async def test_what_is_wrong_with_a_create_request_is_named(gateway: Gateway, document: Any, field: str) -> None:
    reply = await request("POST", f"{gateway.base}/senders/r/transactions", json.dumps(document).encode(), JSON)
    assert reply.status == 400 and field in reply.text and "\n" not in reply.text.strip()
    assert gateway.service.busy == 0


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"mail_from": {"m": "\\ud800"}}'])
async def test_what_is_no_json_is_400(gateway: Gateway, body: bytes) -> None:
    reply = await request("POST", f"{gateway.base}/senders/r/transactions", body, JSON)
    assert reply.status == 400 and "JSON" in reply.text


@pytest.mark.parametrize("form", ["{}", '"{}"', 'W/"{}"', '"x", "{}"', "*"])
async def test_versions_are_entity_tags(gateway: Gateway, form: str) -> None:
    """RFC 9110 §8.8.3, and without quotes as existing clients say them."""
    location, _ = await gateway.peer.create("r", ENVELOPE)
    etag = (await gateway.peer.until(location, "rcpt_response")).headers["etag"]
    assert etag == f'"{etag.strip(chr(34))}"'
    said = form.format(etag.strip('"'))
    unchanged = await request("GET", location, None, {"if-none-match": said, "request-timeout": "1"})
    assert (unchanged.status, unchanged.headers["etag"]) == (304, said)
    assert (await request("PATCH", location, b"", {"if-match": '"0"'})).headers["etag"] == etag
    assert (await request("PATCH", location, b"", {"if-match": said})).status == 200


async def test_patches_that_are_refused_change_nothing(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    etag = (await gateway.peer.until(location, "rcpt_response")).headers["etag"]
    rcpt = {"rcpt_to": [{"m": "carl@example.com"}]}
    for document, status, text in (
        (rcpt, 400, "rcpt_to_list_offset"),
        ({**rcpt, "rcpt_to_list_offset": 2}, 400, "rcpt_to_list_offset"),
        ({**rcpt, "rcpt_to_list_offset": -1}, 400, "rcpt_to_list_offset"),
        ({"mail_from": {"m": "eve@example.net"}}, 400, "mail_from"),
        ({"body": {"inline": "x"}}, 400, "body"),
        ({"smtp_meta": {}}, 400, "smtp_meta"),
        ({"retry": {}}, 400, "retry"),
    ):
        reply = await gateway.peer.patch(location, etag, document)
        assert (reply.status, text in reply.text) == (status, True), reply.text
    reply = await request("PATCH", location, b"{}", {"if-match": etag})
    assert reply.status == 400 and "content-type" in reply.text
    reply = await request("PATCH", location, b"", {"if-match": etag, **JSON})
    assert reply.status == 400
    assert (await gateway.peer.get(location)).headers["etag"] == etag
    assert len(gateway.smtp[0].steps) == 1


@pytest.mark.parametrize(
    "range_",
    [
        "bytes */5",
        "lines 0-4/5",
        "bytes 0-3/5",
        "bytes 0-4/4",
        "bytes 4-0/5",
        "bytes a-b/c",
        "bytes=0-4",
        "bytes 0-4/-5",
    ],
)
async def test_bad_ranges_are_400(gateway: Gateway, range_: str) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE)
    reply = await gateway.peer.put(f"{location}/body", b"01234", {"content-range": range_})
    assert reply.status == 400 and "range" in reply.text
    assert (await gateway.peer.put(f"{location}/body", b"01234")).status == 200


async def test_endless_numbers_are_400(gateway: Gateway) -> None:
    location, _ = await gateway.peer.create("r", ENVELOPE, {"prefer": f"wait={'0' * 5000}1"})
    number = "9" * 5000
    for headers in ({"content-range": f"bytes 0-4/{number}"}, {"x-finalize-blob-length": number}):
        reply = await gateway.peer.put(f"{location}/body", b"", headers)
        assert reply.status == 400 and len(reply.text) < 300
    reply = await request("GET", location, None, {"if-none-match": "1", "request-timeout": number})
    assert reply.status == 400 and len(reply.text) < 300


async def test_a_message_over_the_limit_is_413(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.service, "max_message_size", 10)
    cases: list[tuple[bytes, dict[str, str], list[bytes] | None]] = [
        (b"0123456789a", {}, None),
        (b"", {}, [b"0123456789", b"a"]),
        (b"01234", {"content-range": "bytes 0-4/11"}, None),
    ]
    for body, headers, chunks in cases:
        location, _ = await gateway.peer.create("r", ENVELOPE)
        reply = await gateway.peer.put(f"{location}/body", body, headers, chunks=chunks)
        assert reply.status == 413 and "10 bytes" in reply.text
        assert "finalized" not in (await gateway.peer.get(location)).json["body"]["blob_status"]


async def test_other_paths_methods_and_timeouts(gateway: Gateway) -> None:
    location, created = await gateway.peer.create("r", ENVELOPE)
    assert (await request("GET", f"{gateway.base}/transactions")).status == 404
    assert (await request("DELETE", location)).status == 405
    reply = await request("GET", location, None, {"if-none-match": "9", "request-timeout": "soon"})
    assert reply.status == 400 and "request-timeout" in reply.text
    assert (await request("GET", f"{gateway.base}/healthz")).status == 200
    assert (await request("GET", f"{gateway.base}/readyz")).status == 200
    gateway.service.drain()
    assert (await request("GET", f"{gateway.base}/readyz")).status == 503
    refused = await request("POST", f"{gateway.base}/senders/r/transactions", json.dumps(ENVELOPE).encode(), JSON)
    assert refused.status == 503 and int(refused.headers["retry-after"]) > 0
    assert created.status == 201


async def test_a_client_that_leaves_before_201_leaves_no_conversation_behind(gateway: Gateway) -> None:
    gateway.hold = True
    body = json.dumps(ENVELOPE).encode()
    _, writer = await asyncio.open_connection(LOOPBACK, gateway.server.address.port)
    head = f"POST /senders/r/transactions HTTP/1.1\r\nhost: x\r\nprefer: wait=30\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await eventually(lambda: len(gateway.smtp) == 1, 5)
    writer.close()
    await eventually(lambda: gateway.smtp[0].cancelled == 1, 5)


async def test_our_own_client_needs_no_polls(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    find = gateway.service.find

    async def counted(tx_id: str) -> Resource:
        asked.append(tx_id)
        return await find(tx_id)

    monkeypatch.setattr(gateway.service, "find", counted)
    gateway.hold = True
    clients = HttpClients()
    try:
        upstream = RestUpstream(clients, Target(f"{gateway.base}/senders/r/transactions", "r", "out"), Conversation())
        envelope = asyncio.ensure_future(upstream.step(Step(Mailbox("a@b"), [Mailbox("c@d"), Mailbox("e@f")])))
        await eventually(lambda: len(gateway.smtp) == 1, 5)
        gateway.smtp[0].go.set()
        assert [r.code for r in (await envelope).rcpt] == [250, 250]
        result = await upstream.step(Step(body=BytesBody(MESSAGE)))
        assert result.data == Response(250, "data ok") and gateway.smtp[0].content == MESSAGE
    finally:
        await clients.close()
    assert asked == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_is_repeated_is_answered_as_the_first_one(gateway: Gateway, chunked: bool) -> None:
    """Its client did not hear the answer; the next hop is slow, or has answered."""
    gateway.hold = True
    peer = gateway.peer
    location, created = await peer.create("router", ENVELOPE)
    uri = created.json["body"]["blob_status"]["uri"]
    gateway.smtp[0].go.set()
    await peer.until(location, "rcpt_response")
    gateway.smtp[0].go.clear()
    repeated = {"chunks": [MESSAGE[:9], MESSAGE[9:]]} if chunked else {"body": MESSAGE}
    assert (await request("PUT", uri, MESSAGE)).status == 200
    for _ in range(2):
        reply = await request("PUT", uri, **repeated)
        assert (reply.status, reply.headers["content-range"]) == (200, f"bytes 0-{len(MESSAGE) - 1}/{len(MESSAGE)}")
        gateway.smtp[0].go.set()
        await peer.until(location, "data_response")
    other = await request("PUT", uri, MESSAGE + b"more")
    assert other.status == 416 and gateway.smtp[0].content == MESSAGE
