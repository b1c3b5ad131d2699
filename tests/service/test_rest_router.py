"""The router's REST API as strict peers see it (rest-api.md §1-6, §10), with a gateway and an SMTP server behind it."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import LOOPBACK, House, eventually, quick_end
from tests.support.smtp_dialogue import message
from tests.support.stores import transaction
from tests.support.wire import JSON, Peer, Reply, View, body_uri, request

ENVELOPE = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "bob@example.com"}]}
MESSAGE = message("rest")
SUCCESS = "upstream response success"


def with_a_sender_without_tags(document: dict[str, Any]) -> None:
    quick_end(document)
    document["sender"].append({"name": "tagless", "output_chain": "deliver"})


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url, with_a_sender_without_tags, quick_end) as house:
        yield house


@pytest.fixture
def peer(house: House) -> Peer:
    return Peer(house.rest)


async def post(house: House, document: Any, sender: str = "submission") -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await request("POST", f"{house.rest}/senders/{sender}/transactions", body, JSON)


# --- one-shot ---------------------------------------------------------------------------------------------------------------


async def test_one_shot(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", {**ENVELOPE, "remote_host": ["192.0.2.7", 4711]})
    assert created.json["retry"] == created.json["notification"] == {} and created.json["attempt_count"] == 1
    assert location.startswith(f"{house.rest}/transactions/")
    put = await peer.put(body_uri(created), MESSAGE)
    assert put.status == 200 and put.headers["content-range"] == f"bytes 0-{len(MESSAGE) - 1}/{len(MESSAGE)}"
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS and done.json["attempt_count"] == 1
    assert [r["code"] for r in (done.json["mail_response"], *done.json["rcpt_response"])] == [250, 250]
    assert house.sink.received[0].content.endswith(MESSAGE)
    # the same from the database, once it has left the memory
    await eventually(lambda: location.rpartition("/")[2] not in house.router.dispatcher.deliveries, 10)
    assert (await peer.get(location)).json == done.json


REFUSED = {**ENVELOPE, "rcpt_to": [{"m": "unknown@example.com"}]}


async def test_a_bounce_waits_for_the_header_of_its_original(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", REFUSED)
    refused = await peer.until(location, "rcpt_response")
    assert refused.json["rcpt_response"][0]["code"] == 550 and "final_attempt_reason" not in refused.json
    assert (await peer.put(body_uri(created), MESSAGE)).status == 200
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == "upstream rcpt_response permfail"
    await house.arrived(1)
    assert b"\r\nSubject: rest\r\n" in house.sink.received[0].content.rpartition(b"rfc822-headers")[2]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_bounce_waits_within_bounds(
    house: House, peer: Peer, cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koukan.router.notification.ORIGINAL_WAIT", 30 if cancelled else 0.1)
    location, _ = await peer.create("submission", REFUSED)
    await peer.until(location, "rcpt_response")
    if cancelled:
        await request("POST", f"{location}/cancel", b"")
    done = await peer.until(location, "final_attempt_reason")
    reason = "downstream cancelled" if cancelled else "upstream rcpt_response permfail"
    assert done.json["final_attempt_reason"] == reason
    if not cancelled:
        await house.arrived(1)
        assert b"rfc822-headers" not in house.sink.received[0].content


async def test_a_retry_starts_its_answers_anew(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", {**ENVELOPE, "rcpt_to": [{"m": "rcpttemp@example.com"}]})
    await peer.put(body_uri(created), MESSAGE)
    first = await peer.until(location, "rcpt_response")
    assert first.json["rcpt_response"][0]["code"] == 450 and first.json["attempt_count"] == 1
    assert "final_attempt_reason" not in first.json
    peer.views.clear()
    seen: list[tuple[int, bool]] = []
    async with asyncio.timeout(20):
        while (2, True) not in seen:
            peer.views[location.removeprefix(house.rest)] = View(ENVELOPE)
            document = (await peer.get(location)).json
            seen.append((document["attempt_count"], "rcpt_response" in document))
            await asyncio.sleep(0.01)
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)


async def test_an_upload_is_tried_again_until_it_is_there(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", ENVELOPE)
    uri, size = body_uri(created), len(MESSAGE)

    async def put(first: int, last: int, total: str) -> tuple[int, str | None]:
        headers = {"content-range": f"bytes {first}-{last - 1}/{total}"}
        reply = await peer.put(uri, MESSAGE[first:last], headers)
        return reply.status, reply.headers.get("content-range")

    assert await put(50, 60, "*") == (404, None)
    assert await put(0, 50, "*") == (200, "bytes 0-49/*")
    assert await put(0, 50, "*") == (200, "bytes 0-49/*")  # again
    assert await put(10, 30, "*") == (200, "bytes 0-49/*")  # part of it
    assert await put(40, 70, "*") == (200, "bytes 0-69/*")  # overlapping
    assert await put(80, 90, "*") == (416, "bytes 0-69/*")  # a gap
    assert await put(0, 60, "60") == (416, "bytes 0-69/*")  # less than there is
    assert (await peer.put(uri, MESSAGE[:60])).status == 416
    assert (await peer.put(uri, b"", chunks=[MESSAGE[:60]])).status == 416
    assert await put(70, 80, str(size)) == (200, f"bytes 0-79/{size}")
    assert await put(80, 90, "*") == (416, f"bytes 0-79/{size}")
    assert await put(80, 90, str(size + 1)) == (416, f"bytes 0-79/{size}")
    assert (await peer.put(uri, b"", chunks=[MESSAGE + b"x"])).status == 416
    reply = await peer.put(uri, b"", chunks=[MESSAGE[:30], MESSAGE[30:]])
    assert (reply.status, reply.headers["content-range"]) == (200, f"bytes 0-{size - 1}/{size}")
    await peer.until(location, "final_attempt_reason")
    assert house.sink.received[0].content.endswith(MESSAGE)


async def test_the_whole_body_again_after_it_is_complete(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", {**ENVELOPE, "rcpt_to": [{"m": "rcpttimeout@example.com"}]})
    uri = body_uri(created)
    for chunks in (None, [MESSAGE], None):
        reply = await peer.put(uri, MESSAGE, chunks=chunks)
        assert reply.status == 200 and reply.headers["content-range"].endswith(f"/{len(MESSAGE)}")
    assert (await peer.put(uri, MESSAGE + b"x")).status == 416
    assert (await peer.put(uri, MESSAGE[:-1])).status == 416
    assert (await peer.put(uri, b"", {"x-finalize-blob-length": str(len(MESSAGE))})).status == 200
    reply = await request("POST", f"{location}/cancel", b"")
    assert (reply.status, reply.text) == (200, "")


async def test_two_uploads_of_the_same_body_at_once(house: House, peer: Peer) -> None:
    content = MESSAGE + (bytes(range(47, 127)) + b"\r\n") * 30_000
    location, created = await peer.create("submission", ENVELOPE)
    uri = body_uri(created)
    replies = await asyncio.gather(*(peer.put(uri, content) for _ in range(3)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS
    assert house.sink.received[0].content.endswith(content)


@pytest.mark.parametrize("sender", [("submission", None), ("ingress", "smtp-mx")])
async def test_an_upload_that_broke_off_is_sent_again(house: House, peer: Peer, sender: tuple[str, str | None]) -> None:
    content = MESSAGE + (bytes(range(47, 127)) + b"\r\n") * 20_000
    name, tag = sender
    location, created = await peer.create(name, {**ENVELOPE, **({} if tag is None else {"sender": {"tag": tag}})})
    path = body_uri(created).removeprefix(house.rest)
    _, writer = await asyncio.open_connection(LOOPBACK, house.router_port)
    writer.write(f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode())
    writer.write(content[:1_000_000])
    await writer.drain()
    resource = house.router.dispatcher.deliveries[location.rpartition("/")[2]].resource
    await eventually(lambda: resource.blobs["body"].size > 0, 10)
    writer.close()
    reply = await peer.put(body_uri(created), content)
    assert reply.status == 200 and reply.headers["content-range"].endswith(f"/{len(content)}")
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS
    assert house.sink.received[0].content.endswith(content)


async def test_an_empty_body(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", ENVELOPE)
    reply = await peer.put(body_uri(created), b"")
    assert reply.status == 200 and "content-range" not in reply.headers
    await peer.until(location, "final_attempt_reason")
    assert b"\r\n" in house.sink.received[0].content  # the Received header, and nothing else


async def test_updates_are_for_interactive_transactions(house: House, peer: Peer) -> None:
    location, _ = await peer.create("submission", ENVELOPE)
    etag = (await peer.until(location, "rcpt_response")).headers["etag"]
    documents: list[dict[str, Any]] = [{}, {"rcpt_to": [{"m": "x@y"}], "rcpt_to_list_offset": 1}, {"filter_output": {}}]
    for document in documents:
        reply = await peer.patch(location, etag, document)
        assert reply.status == 400 and "updates" in reply.text
    assert (await peer.patch(location, "4711", {})).status == 400  # before the version is looked at
    reply = await peer.patch(location, etag)
    assert reply.status == 200 and reply.headers["etag"] != etag
    assert (await peer.patch(location, etag)).status == 412


async def test_a_heartbeat_for_what_is_over_changes_nothing(house: House, peer: Peer) -> None:
    location, _ = await peer.create("submission", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    await peer.until(location, "final_attempt_reason")
    for _ in range(2):
        etag = (await peer.get(location)).headers["etag"]
        reply = await peer.patch(location, etag)
        assert reply.status == 200 and reply.headers["etag"] == etag
        await eventually(lambda: location.rpartition("/")[2] not in house.router.dispatcher.deliveries, 10)


async def test_a_long_poll_on_a_finished_transaction_waits_and_says_304(house: House, peer: Peer) -> None:
    location, _ = await peer.create("submission", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    etag = (await peer.until(location, "final_attempt_reason")).headers["etag"]
    started = time.monotonic()
    assert (await peer.get(location, etag, 1)).status == 304
    assert time.monotonic() - started > 0.9
    assert (await peer.get(location, f'"{etag}"', 0)).status == 304


async def test_a_connection_lives_on_after_a_304(house: House, peer: Peer) -> None:
    location, _ = await peer.create("submission", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    etag = (await peer.until(location, "final_attempt_reason")).headers["etag"]
    reader, writer = await asyncio.open_connection(LOOPBACK, house.router_port)
    poll = f"GET {location.removeprefix(house.rest)} HTTP/1.1\r\nhost: x\r\nrequest-timeout: 0\r\nif-none-match: "
    for known, status in ((etag, b"304"), (etag, b"304"), ("0", b"200")):
        writer.write(f"{poll}{known}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.split()[1] == status and b"connection: close" not in head.lower()
    writer.close()


async def test_a_body_that_follows_at_once_is_always_noticed(house: House, peer: Peer) -> None:
    async def submit() -> str:
        location, created = await peer.create("submission", ENVELOPE)
        await peer.put(body_uri(created), MESSAGE)
        reason: str = (await peer.until(location, "final_attempt_reason")).json["final_attempt_reason"]
        return reason

    for _ in range(4):
        assert set(await asyncio.gather(*(submit() for _ in range(40)))) == {SUCCESS}
    assert len(house.sink.received) == 160


# --- create -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "document", "status", "text"),
    [
        ("nobody", ENVELOPE, 404, "nobody"),
        ("submission", {**ENVELOPE, "sender": {"tag": "nothing"}}, 400, "nothing"),
        ("submission", {"rcpt_to": ENVELOPE["rcpt_to"]}, 400, "mail_from"),
        ("submission", {"mail_from": {"m": "a@b"}}, 400, "rcpt_to"),
        ("submission", {**ENVELOPE, "rcpt_to": [{"m": "a@b"}, {"m": "c@d"}]}, 400, "rcpt_to"),
        ("submission", {**ENVELOPE, "body": {"reuse_uri": "/transactions/x/body"}}, 400, "reuse_uri"),
        ("submission", {**ENVELOPE, "body": {"reuse_uri": "/transactions/x/blob/y"}}, 400, "reuse_uri"),
        ("submission", {**ENVELOPE, "body": {"reuse_uri": "http://[/"}}, 400, "reuse_uri"),
        ("submission", {**ENVELOPE, "body": {"reuse_uri": "/transactions/%00/body"}}, 400, "reuse_uri"),
        ("submission", {**ENVELOPE, "body": {"reuse_uri": "/transactions/\x00/body"}}, 400, "reuse_uri"),
        ("submission", {**ENVELOPE, "body": {"inline": 7}}, 400, "body.inline"),
        ("submission", {**ENVELOPE, "body": "x"}, 400, "body"),
        ("submission", {**ENVELOPE, "body": {"message_builder": {"text_body": 7}}}, 400, "text_body"),
        ("submission", {**ENVELOPE, "notification": {}}, 400, "notification"),
        ("submission", {**ENVELOPE, "body": {"foo": 1}}, 400, "body.foo"),
        ("submission", {**ENVELOPE, "body": {"message_builder": {}}}, 400, "body.message_builder: the message has no"),
        ("submission", {**ENVELOPE, "body": {"message_builder": {"text": "hi"}}}, 400, "did you mean 'text_body'?"),
        ("submission", {**ENVELOPE, "mail_from": {"m": "Ann <ann@example.net>"}}, 400, "mail_from.m"),
        ("submission", {**ENVELOPE, "rcpt_to": [{"m": ""}]}, 400, "rcpt_to[0].m: a recipient needs an address"),
        ("submission", {**ENVELOPE, "rcpt_to": [{"m": "bob"}]}, 400, "rcpt_to[0].m: 'bob' is no mail address"),
    ],
)
async def test_what_is_wrong_is_named(
    house: House, sender: str, document: dict[str, Any], status: int, text: str
) -> None:
    reply = await post(house, document, sender)
    assert (reply.status, text in reply.text) == (status, True), reply.text
    assert (await house.router.store.stats()).depth == 0 and not house.router.dispatcher.deliveries


@pytest.mark.parametrize("sender", [{}, {"tag": "anything"}, {"name": "another", "tag": "anything"}])
async def test_a_sender_without_tags_takes_any(house: House, peer: Peer, sender: dict[str, str]) -> None:
    document = {**ENVELOPE, "sender": sender, "body": {"inline": MESSAGE.decode()}}
    location, _ = await peer.create("tagless", document)
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS


async def test_an_empty_body_is_none(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", {**ENVELOPE, "body": {}})
    assert "finalized" not in created.json["body"]["blob_status"]
    await peer.put(body_uri(created), MESSAGE)
    await peer.until(location, "final_attempt_reason")


async def test_a_body_is_reused_by_any_of_its_uris(house: House, peer: Peer) -> None:
    first, _ = await peer.create("submission", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    path = first.removeprefix(house.rest)
    for uri in (f"{first}/body", f"{path}/body", f"http://other.example{path}/body"):
        second, created = await peer.create("submission", {**ENVELOPE, "body": {"reuse_uri": uri}})
        assert created.json["body"]["blob_status"]["finalized"] is True
        await peer.until(second, "final_attempt_reason")
    await house.arrived(4)
    assert all(mail.content.endswith(MESSAGE) for mail in house.sink.received)


async def test_an_unfinished_body_is_not_reused(house: House, peer: Peer) -> None:
    first, created = await peer.create("submission", ENVELOPE)
    await peer.put(body_uri(created), b"Subj", {"content-range": "bytes 0-3/*"})
    reply = await post(house, {**ENVELOPE, "body": {"reuse_uri": f"{first}/body"}})
    assert reply.status == 400 and "not complete" in reply.text


async def test_nobody_reuses_the_mail_of_another_sender(house: House, peer: Peer) -> None:
    first, _ = await peer.create("submission", {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})
    await peer.until(first, "final_attempt_reason")
    document = {**ENVELOPE, "sender": {"tag": "smtp-mx-upstream"}, "body": {"reuse_uri": f"{first}/body"}}
    reply = await post(house, document, "ingress")
    assert reply.status == 400 and "unknown to this sender" in reply.text


async def test_a_domain_in_letters_of_its_own_needs_nothing_else(house: House, peer: Peer) -> None:
    spec = {
        "headers": [["from", [{"display_name": "Jörg", "address": "joerg@bücher.example"}]], ["subject", "Grüße"]],
        "text_body": [{"content_type": "text/plain", "content": {"inline": "Grüße"}}],
    }
    document = {"mail_from": {"m": "joerg@bücher.example"}, "rcpt_to": [{"m": "bob@例子.example"}]}
    location, _ = await peer.create("submission", {**document, "body": {"message_builder": spec}})
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS
    [mail] = house.sink.received
    assert (mail.mail_from, mail.rcpt_to) == ("joerg@xn--bcher-kva.example", ("bob@xn--fsqu00a.example",))
    assert mail.content.isascii() and b"<joerg@xn--bcher-kva.example>" in mail.content


async def test_blobs_of_a_spec(house: House, peer: Peer) -> None:
    spec = {
        "headers": [["from", [{"address": "ann@example.net"}]], ["to", [{"address": "bob@example.com"}]]],
        "text_body": [
            {"content_type": "text/plain", "content": {"create_id": "text"}},
            {"content_type": "text/html", "content": {"inline": "<p>hi</p>"}},
        ],
    }
    document = {**ENVELOPE, "body": {"message_builder": spec}}
    location, created = await peer.create("submission", document)
    blobs = created.json["body"]["message_builder"]["blob_status"]
    assert set(blobs) == {"text", "inline1"} and blobs["inline1"]["finalized"] is True
    assert (await peer.put(f"{location}/body", MESSAGE)).status == 409
    reuse = {**ENVELOPE, "body": {"reuse_uri": f"{location}/body"}}
    reply = await post(house, reuse)
    assert reply.status == 400 and "is built from its spec" in reply.text and "/blob/{id}" in reply.text
    reply = await post(house, {**reuse, "sender": {"tag": "smtp-mx-upstream"}}, "ingress")
    assert reply.status == 400 and "unknown to this sender" in reply.text
    assert (await request("PUT", f"{location}/blob/nothing", b"x")).status == 404
    assert (await peer.put(blobs["text"]["uri"], b"hello")).status == 200
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == SUCCESS
    # and once more, without uploading
    spec["text_body"] = [{"content_type": "text/plain", "content": {"reuse_uri": blobs["text"]["uri"]}}]
    location, created = await peer.create("submission", document)
    assert created.json["body"]["message_builder"]["blob_status"]["text"]["finalized"] is True
    await peer.until(location, "final_attempt_reason")
    texts = [email.message_from_bytes(mail.content, policy=email.policy.default) for mail in house.sink.received]
    plain = [part for text in texts for part in text.walk() if part.get_content_type() == "text/plain"]
    assert [part.get_payload(decode=True) for part in plain] == [b"hello", b"hello"]


@pytest.mark.parametrize("tx_id", ["unknown", "1-unknown", "ffffffff-x", "%00", "%2e%2e", "-", "a%2Fb", "%ff"])
async def test_an_unknown_transaction_is_404_everywhere(house: House, tx_id: str) -> None:
    url = f"{house.rest}/transactions/{tx_id}"
    for method, path in (("GET", ""), ("PATCH", ""), ("PUT", "/body"), ("PUT", "/blob/x")):
        body = None if method == "GET" else b""
        reply = await request(method, url + path, body, {"if-match": "1", "if-none-match": "1"})
        assert reply.status == 404, (method, reply.text)
    reply = await request("POST", f"{url}/cancel", b"")
    assert (reply.status, reply.text) == (200, "unknown tx: there is nothing to cancel\n")  # as peers expect


async def test_a_message_over_the_limit(house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.router.service, "max_message_size", 50)
    assert (await post(house, {**ENVELOPE, "body": {"inline": MESSAGE.decode()}})).status == 413
    _, created = await peer.create("submission", ENVELOPE)
    assert (await peer.put(body_uri(created), MESSAGE)).status == 413
    assert (await peer.put(body_uri(created), b"", chunks=[MESSAGE])).status == 413


async def test_a_document_over_the_limit_is_413(house: House) -> None:
    reply = await post(house, b'{"mail_from": {"m": "' + b"x" * (16 * 1024 * 1024) + b'"}}')
    assert reply.status == 413


async def test_a_draining_router_takes_nothing_new_and_finishes_what_it_has(house: House, peer: Peer) -> None:
    location, created = await peer.create("submission", ENVELOPE)
    house.router.service.drain()
    reply = await post(house, ENVELOPE)
    assert reply.status == 503 and int(reply.headers["retry-after"]) > 0
    assert (await request("GET", f"{house.rest}/readyz")).status == 503
    await peer.put(body_uri(created), MESSAGE)
    await peer.until(location, "final_attempt_reason")


# --- interactive ------------------------------------------------------------------------------------------------------------


async def test_interactive(house: House, peer: Peer) -> None:
    envelope = {"mail_from": {"m": "ann@example.net"}, "sender": {"name": "ingress", "tag": "smtp-mx"}}
    hosts = {"remote_host": ["203.0.113.9", 53006], "local_host": ["198.51.100.1", 25]}
    location, created = await peer.create("ingress", {**envelope, **hosts})
    assert created.json["attempt_count"] == 1 and "retry" not in created.json
    reply = await peer.until(location, "mail_response")
    for number, (rcpt, code) in enumerate([("bob", 250), ("rcpttimeout", 450), ("rcptperm", 550)]):
        offset = {"rcpt_to_list_offset": number} if number else {}
        reply = await peer.patch(location, reply.headers["etag"], {"rcpt_to": [{"m": f"{rcpt}@example.com"}], **offset})
        assert reply.status == 200
        reply = await peer.until(location, "rcpt_response", number + 1)
        assert reply.json["rcpt_response"][number]["code"] == code
    uri = body_uri(reply)
    await peer.put(uri, MESSAGE[:20], {"content-range": "bytes 0-19/*"})
    await peer.put(uri, MESSAGE[20:], {"content-range": f"bytes 20-{len(MESSAGE) - 1}/{len(MESSAGE)}"})
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["data_response"]["code"] == 250 and done.json["attempt_count"] == 1
    assert house.sink.received[0].content.endswith(MESSAGE)
    assert (await peer.put(uri, MESSAGE)).status == 200  # its client may not have heard the first answer
    assert (await peer.put(uri, MESSAGE + b"more")).status == 416
    refused = await peer.patch(
        location, done.headers["etag"], {"rcpt_to": [{"m": "x@example.com"}], "rcpt_to_list_offset": 3}
    )
    assert refused.status == 409
    # the same from the history
    await eventually(lambda: location.rpartition("/")[2] not in house.router.dispatcher.deliveries, 10)
    assert (await peer.get(location)).json == done.json


async def test_interactive_answers_come_with_the_requests_when_asked(house: House, peer: Peer) -> None:
    envelope = {**ENVELOPE, "sender": {"tag": "smtp-mx"}}
    location, reply = await peer.create("ingress", envelope, {"prefer": "wait=10"})
    assert reply.json["rcpt_response"][0]["code"] == 250
    reply = await peer.patch(
        location,
        reply.headers["etag"],
        {"rcpt_to": [{"m": "rcptperm@example.com"}], "rcpt_to_list_offset": 1},
        {"prefer": "wait=10"},
    )
    assert [r["code"] for r in reply.json["rcpt_response"]] == [250, 550]
    reply = await peer.put(f"{location}/body", MESSAGE, {"prefer": "wait=10"})
    assert reply.json["data_response"]["code"] == 250 and reply.headers["preference-applied"] == "wait=10"


async def test_a_transaction_that_was_never_attempted_has_no_attempt_count(house: House, peer: Peer) -> None:
    row = transaction("waiting", due_in=3600)
    await house.router.store.keep([row])
    peer.views["/transactions/waiting"] = View({})
    seen = await peer.get(f"{house.rest}/transactions/waiting")
    assert seen.status == 200 and "attempt_count" not in seen.json and seen.json["rcpt_to"] == [{}]
