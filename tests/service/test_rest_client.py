"""Our REST client against servers of every kind: the existing Koukan's, applications, and those that misbehave (§7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from koukan.blob.bodies import BytesBody
from koukan.dev.receiver import Receiver
from koukan.message.bodies import ParsedBody
from koukan.model import EsmtpParam, HostPort, Mailbox, Response, SmtpMeta, Step
from koukan.rest import remote
from koukan.rest.remote import Conversation
from tests.support.house import eventually
from tests.support.oldserver import OldServer, Seen
from tests.support.rest_client import ANN, BOB, CARL, LARGE, MESSAGE, Open, codes, deliver, failing, opener


@pytest.fixture
async def open_(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    async with opener(monkeypatch) as open_:
        yield open_


# --- the existing Koukan ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent_polls", [0, 3])
@pytest.mark.parametrize("etag", ["{version}", '"{version}"'])
@pytest.mark.parametrize("location", ["{base}/transactions/T", "/transactions/T"])
async def test_step_by_step(open_: Open, silent_polls: int, etag: str, location: str) -> None:
    async with OldServer(silent_polls=silent_polls, etag=etag, location=location) as server:
        meta = SmtpMeta("client.example", True, False, None)
        about = Conversation(HostPort("192.0.2.1", 25), HostPort("198.51.100.1", 587), meta, {"a.B": {"x": 1}})
        upstream = open_(server.url, about)
        sender = Mailbox("ann@example.net", (EsmtpParam("SIZE", "500"), EsmtpParam("SMTPUTF8")))
        assert codes(await upstream.step(Step(sender))) == [250, None]
        assert codes(await upstream.step(Step(rcpt_to=[BOB]))) == [None, 250, None]
        assert codes(await upstream.step(Step(rcpt_to=[CARL]))) == [None, 250, None]
        assert codes(await upstream.step(Step(body=BytesBody(MESSAGE)))) == [None, 250]
        await upstream.cancel()
    [created] = server.sent("POST")
    assert created.headers["content-type"] == "application/json"
    assert created.json == {
        "remote_host": ["192.0.2.1", 25],
        "local_host": ["198.51.100.1", 587],
        "smtp_meta": {"ehlo_host": "client.example", "esmtp": True, "tls": False, "auth": None},
        "filter_output": {"a.B": {"x": 1}},
        "sender": {"name": "x", "tag": "tag"},
        "mail_from": {"m": "ann@example.net", "e": [{"k": "SIZE", "p": "500"}, {"k": "SMTPUTF8"}]},
    }
    first, second = server.sent("PATCH")
    assert first.headers["content-type"] == "application/json" and first.json == {"rcpt_to": [{"m": "bob@example.com"}]}
    assert second.json == {"rcpt_to": [{"m": "carl@example.com"}], "rcpt_to_list_offset": 1}
    [put] = server.sent("PUT")
    assert str(put) == "PUT /transactions/T/body" and put.body == MESSAGE and "content-range" not in put.headers
    assert all("if-none-match" in seen.headers and int(seen.headers["request-timeout"]) for seen in server.sent("GET"))


async def test_polls_that_are_answered_at_once_are_spaced(open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "POLL_SPACING", 0.4)
    async with OldServer(silent_polls=4) as server:
        started = time.monotonic()
        assert codes(await open_(server.url).step(Step(ANN))) == [250, None]
        assert time.monotonic() - started > 1.5 and len(server.sent("GET")) == 5


async def test_the_race_of_the_last_byte(open_: Open) -> None:
    async with OldServer(silent_polls=2, late_reports=3) as server:
        assert codes(await deliver(open_(server.url))) == [250, 250, 250]


async def test_a_router_that_tries_again_meanwhile_is_listened_to(open_: Open) -> None:
    async with OldServer(retries=True) as server:
        assert codes(await deliver(open_(server.url))) == [250, 250, 250]


class Cutting:
    """A server in front of nothing: hands bytes of the test's own to whoever comes."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.connections = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/senders/x/transactions"

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if self._answer is None:
            await reader.read()  # until the client gives up
        else:
            writer.write(self._answer)
        writer.close()


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_an_error_on_a_poll_is_not_an_error_of_the_transaction(open_: Open, status: int) -> None:
    async with OldServer() as server:
        failing(server, "GET", times=8, how=status)
        assert codes(await deliver(open_(server.url))) == [250, 250, 250]


async def test_polls_are_asked_again_when_their_connection_breaks(open_: Open) -> None:
    async with OldServer() as server:
        broken = 0

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            nonlocal broken
            if seen.method == "GET" and broken < 3:
                broken += 1
                response = web.Response(
                    body=b"{", headers={"content-length": "100", "content-type": "application/json"}
                )
                response.force_close()
                return response
            return None

        server.intercept = intercept
        assert codes(await deliver(open_(server.url))) == [250, 250, 250]


async def test_a_server_that_goes_away_for_good_is_a_temporary_failure_soon(open_: Open) -> None:
    async with OldServer(silent_polls=10_000) as server:
        upstream = open_(server.url, rcpt_timeout=60)
        stepping = asyncio.ensure_future(upstream.step(Step(ANN, [BOB])))
        await eventually(lambda: bool(server.sent("GET")), 10)
        await server.stop()
        started = time.monotonic()
        assert codes(await stepping) == [450, 450, None]
        assert time.monotonic() - started < 20


async def test_a_conflict_is_looked_at_and_the_update_said_again(open_: Open) -> None:
    async with OldServer() as server:
        upstream = open_(server.url)
        await upstream.step(Step(ANN))
        server.version += 3  # somebody else has written
        assert codes(await upstream.step(Step(rcpt_to=[BOB]))) == [None, 250, None]
        assert [seen.headers["if-match"] for seen in server.sent("PATCH")] == ["2", "5"]
        failing(server, "PATCH", times=1000, how=412)
        assert codes(await upstream.step(Step(rcpt_to=[CARL]))) == [None, 450, None]
        assert len(server.sent("PATCH")) == 2 + remote.PATCH_TRIES


async def test_heartbeats_and_cancel(open_: Open) -> None:
    async with OldServer() as server:
        upstream = open_(server.url)
        await upstream.heartbeat()  # nothing to keep alive yet
        await upstream.step(Step(ANN, [BOB]))
        await upstream.heartbeat()
        [beat] = server.sent("PATCH")
        assert beat.body == b"" and beat.headers.get("content-length") == "0" and beat.headers["if-match"]
        assert "content-type" not in beat.headers
        await upstream.cancel()
        await upstream.cancel()
        assert [str(seen) for seen in server.sent("POST")][1:] == ["POST /transactions/T/cancel"]
        assert "if-match" not in server.requests[-1].headers


async def test_what_fails_keeps_its_class_in_what_depended_on_it(open_: Open) -> None:
    for code in (450, 550):
        failed = {"code": code, "message": f"{code // 100}.7.1 no"}
        async with OldServer(mail=failed) as server:
            assert codes(await deliver(open_(server.url))) == [code, code, code]
            assert not server.sent("PUT")
        async with OldServer(rcpt=[failed, failed]) as server:
            assert codes(await deliver(open_(server.url), rcpts=(BOB, CARL))) == [250, code, code, code]
            assert not server.sent("PUT")
        async with OldServer(data=failed) as server:
            result = await deliver(open_(server.url))
            assert result.data == Response(code, f"{code // 100}.7.1 no")


# --- servers that misbehave -------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\netag: 1\r\n"
RUBBISH = [
    b"",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    HEAD + b"content-length: 2\r\n\r\n{}",
    HEAD + b"location: http://[\r\ncontent-length: 2\r\n\r\n{}",
    HEAD + b"location: file:///etc/passwd\r\ncontent-length: 2\r\n\r\n{}",
    HEAD + b"location: /t\r\ncontent-length: 5\r\n\r\nhello",
    HEAD + b"location: /t\r\ncontent-length: 2\r\n\r\n[]",
    HEAD + b"location: /t\r\ncontent-length: 50\r\n\r\n{}",
    HEAD + b'location: /t\r\ncontent-length: 23\r\n\r\n{"mail_response":"fine"}',
    HEAD + b"location: /t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops",
    b"HTTP/1.1 308 Moved\r\nlocation: http://[\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 308 Moved\r\nlocation: gopher://x/\r\ncontent-length: 0\r\n\r\n",
]


@pytest.mark.parametrize("answer", RUBBISH)
async def test_rubbish_is_a_temporary_failure(open_: Open, answer: bytes) -> None:
    async with Cutting(answer) as url:
        result = await deliver(open_(url, rcpt_timeout=5))
        assert codes(result) == [450, 450, 450]


async def test_silence_is_a_temporary_failure_in_time(open_: Open) -> None:
    async with Cutting(None) as url:
        started = time.monotonic()
        assert codes(await open_(url, rcpt_timeout=1).step(Step(ANN, [BOB]))) == [450, 450, None]
        assert 0.9 < time.monotonic() - started < 10


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "", "nonsense", "http://[", "ftp://x/", "http://no.invalid/x"])
async def test_nowhere_to_go_is_a_temporary_failure(open_: Open, url: str) -> None:
    assert codes(await open_(url).step(Step(ANN, [BOB]))) == [450, 450, None]


async def test_an_answer_without_end_is_not_read_to_the_end(open_: Open) -> None:
    head = HEAD + b"location: /t\r\ncontent-length: 100000000\r\n\r\n"
    async with Cutting(head + b" " * 17 * 1024 * 1024) as url:
        [mail, _] = codes(await open_(url).step(Step(ANN)))
        assert mail == 450


# --- redirects --------------------------------------------------------------------------------------------------------------


async def test_the_owner_is_talked_to_once_it_is_known(open_: Open) -> None:
    async with OldServer() as owner, OldServer() as front:

        async def redirect(seen: Seen) -> web.StreamResponse | None:
            return web.Response(status=308, headers={"location": owner.base + seen.path})

        front.intercept = redirect
        assert codes(await deliver(open_(front.url))) == [250, 250, 250]
        assert [str(seen) for seen in front.requests] == ["POST /senders/x/transactions"]
        assert owner.stored == MESSAGE


async def test_a_transaction_that_has_moved_is_followed_and_looked_for_again_when_its_owner_is_gone(
    open_: Open,
) -> None:
    async with OldServer() as home, OldServer(silent_polls=10_000) as owner:
        moved = True

        async def redirect(seen: Seen) -> web.StreamResponse | None:
            if not moved or seen.path.startswith("/senders"):
                return None
            return web.Response(status=308, headers={"location": owner.base + seen.path})

        home.intercept = redirect
        stepping = asyncio.ensure_future(open_(home.url).step(Step(ANN, [BOB])))
        await eventually(lambda: len(owner.sent("GET")) >= 3, 10)
        assert len(home.sent("GET")) == 1
        moved = False
        await owner.stop()
        assert codes(await stepping) == [250, 250, None]


async def test_redirects_in_a_circle_end(open_: Open) -> None:
    async with OldServer() as server:

        async def circle(seen: Seen) -> web.StreamResponse | None:
            return web.Response(status=308, headers={"location": seen.path})

        server.intercept = circle
        assert codes(await open_(server.url).step(Step(ANN, [BOB]))) == [450, 450, None]
        assert len(server.requests) < 10


async def test_a_body_is_sent_again_where_it_is_redirected_to(open_: Open) -> None:
    async with OldServer() as home, OldServer() as owner:

        async def redirect(seen: Seen) -> web.StreamResponse | None:
            if seen.method != "PUT":
                return None
            home.stored, home.length = LARGE, len(LARGE)
            return web.Response(status=308, headers={"location": owner.base + seen.path})

        home.intercept = redirect
        assert codes(await deliver(open_(home.url), BytesBody(LARGE))) == [250, 250, 250]
        assert owner.stored == LARGE


# --- receivers --------------------------------------------------------------------------------------------------------------


async def test_a_parsed_message_for_an_application(open_: Open) -> None:
    receiver = Receiver()
    await receiver.start(HostPort("127.0.0.1", 0))
    try:
        url = f"http://127.0.0.1:{receiver.address.port}/senders/app/transactions"
        upstream = open_(url, Conversation(filter_output={"a.B": {}}), chunk_size=10_000)
        spec = {"text_body": [{"content_type": "text/plain", "content": {"inline": "hi"}}]}
        spec["file_attachments"] = [{"content_type": "image/png", "content": {"create_id": "pic"}}]
        body = ParsedBody(BytesBody(LARGE), spec, {"pic": BytesBody(LARGE)})
        assert codes(await upstream.step(Step(ANN, [BOB]))) == [250, 250, None]
        await upstream.send_filter_output({"c.D": {"x": 1}})
        assert codes(await upstream.step(Step(body=body))) == [None, 250]
        [received] = receiver.transactions.values()
        assert received.message == spec and received.blobs == {"pic": LARGE} and received.body == LARGE
        assert received.filter_output == {"a.B": {}, "c.D": {"x": 1}}
    finally:
        await receiver.stop()


async def test_attachments_have_their_own_types(open_: Open) -> None:
    async with OldServer() as server:

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            blobs = {name: {"uri": f"/blob/{name}"} for name in ("pic", "list")}
            builder: dict[str, Any] = {"blob_status": blobs} if seen.path == "/spec" else {"uri": "/spec"}
            document: dict[str, Any] = {"mail_response": {"code": 250}, "rcpt_response": [{"code": 250}]}
            document["body"] = {"blob_status": {"uri": "/b"}, "message_builder": builder}
            if seen.path == "/b":
                document["data_response"] = {"code": 250}
            headers = {"etag": "1", "location": "/transactions/T", "preference-applied": "wait=1"}
            return web.json_response(document, status=201 if seen.path.startswith("/senders") else 200, headers=headers)

        server.intercept = intercept
        spec = {
            "file_attachments": [
                {"content_type": "image/png", "content": {"create_id": "pic"}},
                {"content_type": "text/csv", "content": {"create_id": "list"}},
            ]
        }
        body = ParsedBody(BytesBody(MESSAGE), spec, {"pic": BytesBody(b"x"), "list": BytesBody(b"y")})
        assert codes(await deliver(open_(server.url), body)) == [250, 250, 250]
        assert {seen.path: seen.headers["content-type"] for seen in server.sent("PUT")} == {
            "/blob/pic": "image/png",
            "/blob/list": "text/csv; charset=utf-8",
            "/b": "message/rfc822",
        }


async def test_a_receiver_that_names_no_place_for_a_blob(open_: Open, caplog: pytest.LogCaptureFixture) -> None:
    async with OldServer() as server:

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            body: dict[str, Any] = {"blob_status": {"uri": "/b"}, "message_builder": {"uri": "/spec"}}
            if seen.path == "/spec":
                body = {"blob_status": {"uri": "/b"}, "message_builder": {"blob_status": {}}}
            document = {"mail_response": {"code": 250}, "rcpt_response": [{"code": 250}], "body": body}
            headers = {"etag": "1", "location": "/transactions/T"}
            return web.json_response(document, status=201 if seen.path.startswith("/senders") else 200, headers=headers)

        server.intercept = intercept
        body = ParsedBody(BytesBody(MESSAGE), {}, {"pic": BytesBody(b"x")})
        result = await deliver(open_(server.url), body)
        assert result.data is not None and result.data.code == 450 and "'pic'" in caplog.text
        assert not server.sent("PUT")


async def test_answers_are_asked_for_in_plain(open_: Open) -> None:
    async with OldServer() as server:
        await deliver(open_(server.url))
        assert all(seen.headers["accept-encoding"] == "identity" for seen in server.requests)
        assert all(seen.headers["prefer"].startswith("wait=") for seen in server.requests if seen.method != "GET")
