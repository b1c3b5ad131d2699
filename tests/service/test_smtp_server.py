"""The gateway's SMTP side as clients see it: TLS, AUTH, PROXY, limits, line ends, drain."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.config.gateway import SmtpServiceConfig
from koukan.dev.files import prepare
from koukan.errors import BodyAborted
from koukan.model import HostPort, Response, Step, StepResult, Upstream
from koukan.smtp import transaction
from koukan.smtp.server import SmtpListener
from koukan.smtp.transaction import Conversation
from tests.support.house import eventually
from tests.support.smtp_dialogue import Dialogue, message

OK = Response(250, "2.0.0 ok")


class Recorder(Upstream):
    """Takes everything and remembers it; `hang` makes data wait for ever, `answer` replaces its reply."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.steps: list[Step] = []
        self.body: bytes | None = None
        self.cancelled = False
        self.answer = OK
        self.hang = False

    async def step(self, step: Step) -> StepResult:
        self.steps.append(step)
        if step.body is not None:
            if self.hang:
                await asyncio.get_running_loop().create_future()
            try:
                self.body = await step.body.read()
            except BodyAborted:
                return StepResult(data=Response(451, "4.4.2 incomplete"))
        return StepResult.all(step, self.answer if step.body is not None else OK)

    async def heartbeat(self) -> None:
        raise AssertionError("nobody asked for a heartbeat")

    async def cancel(self) -> None:
        self.cancelled = True


class Server:
    """A listener whose transactions end in recorders."""

    def __init__(self, directory: Path, **options: Any) -> None:
        prepare(directory)
        self.transactions: list[Recorder] = []
        files = {"cert": str(directory / "tls.crt"), "key": str(directory / "tls.key")}
        config = {"addr": ["127.0.0.1", 0], "endpoint": "mx", "sender": "ingress", "tag": "smtp-mx", **files, **options}
        self.listener = SmtpListener(SmtpServiceConfig.model_validate(config), self._open)
        self.hang = False

    @property
    def address(self) -> HostPort:
        return self.listener.address

    def _open(self, conversation: Conversation) -> Upstream:
        recorder = Recorder(conversation)
        recorder.hang = self.hang
        self.transactions.append(recorder)
        return recorder


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Any]:
    started: list[Server] = []

    async def start(**options: Any) -> Server:
        server = Server(tmp_path, **options)
        await server.listener.start()
        started.append(server)
        return server

    yield start
    for server in started:
        await server.listener.stop()


@pytest.fixture
def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


async def test_the_envelope_and_the_message_arrive_as_they_were_sent(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address, hello="me.example") as client:
        assert (await client.command("MAIL FROM:<ann@example.net> SIZE=100 BODY=8BITMIME")).code == 250
        assert (await client.command("RCPT TO:<bob@example.com>")).code == 250
        assert (await client.data(message("x", ".\r\na\rb\nc\r\n"))).code == 250
    [recorder] = server.transactions
    [envelope, body] = recorder.steps
    assert envelope.mail_from is not None and [str(p) for p in envelope.mail_from.params] == [
        "SIZE=100",
        "BODY=8BITMIME",
    ]
    assert [str(rcpt) for rcpt in envelope.rcpt_to] == ["bob@example.com"]
    assert body.body is not None and recorder.body == message("x", ".\r\na\rb\nc\r\n")
    meta = recorder.conversation.smtp_meta
    assert (meta.ehlo_host, meta.esmtp, meta.tls, meta.auth) == ("me.example", True, False, None)


@pytest.mark.parametrize("implicit", [False, True])
async def test_both_ways_of_tls_are_seen_and_offer_auth(
    servers: Any, trusting: ssl.SSLContext, tmp_path: Path, implicit: bool
) -> None:
    server = await servers(smtps=implicit, auth_secrets=str(tmp_path / "users.json"))
    async with Dialogue.open(server.address, tls=trusting if implicit else None) as client:
        if not implicit:
            assert "AUTH" not in (await client.command("EHLO me")).message
            assert (await client.command(f"AUTH PLAIN {plain('koukan', 'koukan')}")).code == 538
            await client.start_tls(trusting)
            assert (await client.command("MAIL FROM:<a@example.net>")).code == 503  # EHLO again (RFC 3207 §4.2)
        extensions = (await client.command("EHLO me")).message
        assert "AUTH LOGIN PLAIN" in extensions and "STARTTLS" not in extensions
        assert (await client.command("STARTTLS")).code == 503
        assert (await client.command(f"AUTH PLAIN {plain('koukan', 'wrong')}")).code == 535
        assert (await client.command(f"AUTH PLAIN {plain('koukan', 'koukan')}")).code == 235
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.data(message())).code == 250
    meta = server.transactions[0].conversation.smtp_meta
    assert meta.tls is True and meta.auth is True
    assert meta.extra is not None and str(meta.extra["tls_version"]).startswith("TLSv1.") and meta.extra["tls_cipher"]


async def test_guessing_passwords_ends_the_connection(servers: Any, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    server = await servers(smtps=True, auth_secrets=str(tmp_path / "users.json"))
    async with Dialogue.open(server.address, tls=trusting) as client:
        for _ in range(3):
            assert (await client.command(f"AUTH PLAIN {plain('koukan', 'guess')}")).code == 535
        assert (await client.reply()).code == 421


async def test_what_is_sent_ahead_of_the_handshake_does_not_count(servers: Any, trusting: ssl.SSLContext) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        client.writer.write(b"STARTTLS\r\nMAIL FROM:<mallory@example.net>\r\n")
        assert (await client.reply()).code == 220
        await client.writer.start_tls(trusting, server_hostname="localhost")
        assert (await client.command("EHLO me")).code == 250
    assert not server.transactions


async def test_a_proxy_header_names_the_client(servers: Any) -> None:
    server = await servers(proxy_protocol_timeout=5)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25\r\n")
    client = Dialogue(reader, writer)
    assert (await client.reply()).code == 220
    await client.command("EHLO me")
    await client.envelope("ann@example.net", ["bob@example.com"])
    assert (await client.data(message())).code == 250
    conversation = server.transactions[0].conversation
    assert conversation.remote_host == HostPort("192.0.2.7", 4711)
    assert conversation.local_host == HostPort("192.0.2.25", 25)
    await client.close()


async def test_without_the_expected_proxy_header_there_is_no_conversation(servers: Any) -> None:
    server = await servers(proxy_protocol_timeout=5)
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"EHLO me\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("FOO", 500),
        ("MAIL FROM:ann@example.net", 501),
        ("MAIL FROM:<ann@example.net> SIZE=99999999999", 552),
        ("MAIL FROM:<ann@example.net> FOO=1", 555),
        ("MAIL FROM:<ann@example.net> SIZE=x", 501),
        ("RCPT TO:<bob@example.com>", 503),
        ("DATA", 503),
        ("DATA now", 501),
        ("AUTH PLAIN x", 502),
        ("VRFY bob", 252),
        ("NOOP", 250),
        ("HELP", 214),
        ("RSET", 250),
        ("x" * 5000, 500),
        ("MAIL FROM:<ann@example.net>\x00", 500),
    ],
)
async def test_replies(servers: Any, command: str, code: int) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        assert (await client.command(command)).code == code
        assert (await client.command("NOOP")).code == 250


async def test_too_many_errors_end_the_connection(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        for _ in range(21):
            assert (await client.command("FOO")).code == 500
        assert (await client.reply()).code == 421


async def test_limits_of_connections_recipients_and_size(servers: Any) -> None:
    limits = {"max_connections": 2, "max_connections_per_ip": 2, "max_recipients": 1, "max_message_size": 1000}
    server = await servers(limits=limits)
    async with Dialogue.open(server.address) as client, Dialogue.open(server.address):
        third, writer = await asyncio.open_connection(*server.address)
        assert (await third.readline()).startswith(b"421 4.7.0 ")
        writer.close()
        replies = await client.envelope("ann@example.net", ["bob@example.com", "carl@example.com"])
        assert [reply.code for reply in replies] == [250, 250, 452]
        assert (await client.data(message("big", "x" * 2000 + "\r\n"))).code == 552
        assert (await client.command("NOOP")).code == 250
    await eventually(lambda: server.transactions[0].cancelled)


async def test_a_message_that_is_too_big_while_it_streams_is_refused_at_its_end(servers: Any) -> None:
    server = await servers(limits={"max_message_size": 500_000})
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.data(message("big", "x" * 998 + "\r\n") * 600)).code == 552
        assert (await client.command("NOOP")).code == 250


async def test_pipelined_commands_and_messages_stay_apart(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        one = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        client.writer.write(one)
        assert [(await client.reply()).code for _ in range(3)] == [250, 250, 354]
        client.writer.write(b"first\r\n.\r\n" + one)
        assert [(await client.reply()).code for _ in range(4)] == [250, 250, 250, 354]
        client.writer.write(b"second\r\n.\r\nQUIT\r\n")
        assert [(await client.reply()).code for _ in range(2)] == [250, 221]
    assert [recorder.body for recorder in server.transactions] == [b"first\r\n", b"second\r\n"]


@pytest.mark.parametrize("end", [b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r"])
async def test_only_the_true_end_of_data_ends_a_message(servers: Any, end: bytes) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.command("DATA")).code == 354
        smuggled = b"x" + end + b"MAIL FROM:<mallory@example.net>\r\n"
        client.writer.write(smuggled + b".\r\n")
        assert (await client.reply()).code == 250
    assert len(server.transactions) == 1
    # A dot at the beginning of a line is transparency's (RFC 5321 §4.5.2); everything else is the message's.
    assert server.transactions[0].body == smuggled.replace(b"\r\n.", b"\r\n")


async def test_every_way_of_leaving_cancels_the_transaction_at_once(servers: Any) -> None:
    server = await servers()
    for goodbye in ("RSET", "QUIT", "EHLO again", None):
        async with Dialogue.open(server.address) as client:
            await client.envelope("ann@example.net", ["bob@example.com"])
            if goodbye is None:
                client.writer.transport.abort()
            else:
                assert (await client.command(goodbye)).code in (221, 250)
            recorder = server.transactions[-1]
            await eventually(lambda recorder=recorder: recorder.cancelled, 5)


async def test_a_client_that_vanishes_within_its_message_leaves_nothing_finished(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.command("DATA")).code == 354
        client.writer.write(b"x" * 200_000)
        await client.writer.drain()
        client.writer.transport.abort()
    await eventually(lambda: server.transactions[0].cancelled, 5)
    assert server.transactions[0].body is None


async def test_silence_upstream_is_a_temporary_failure(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "UPSTREAM_GRACE", 0)
    server = await servers(data_timeout=0.2)
    server.hang = True
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.data(message())).code == 451
    assert server.transactions[0].cancelled


async def test_an_idle_client_is_told_and_dropped(servers: Any) -> None:
    server = await servers(limits={"command_timeout": 0.2})
    async with Dialogue.open(server.address) as client:
        assert (await client.reply()).code == 421
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""


async def test_draining_lets_the_message_in_flight_finish(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as busy, Dialogue.open(server.address) as idle:
        await busy.envelope("ann@example.net", ["bob@example.com"])
        draining = asyncio.create_task(server.listener.drain(10))
        assert (await idle.reply()).code == 421
        assert (await busy.data(message())).code == 250
        assert (await busy.command("NOOP")).code == 421
        await draining


async def test_a_reply_of_several_lines_stays_well_formed(servers: Any) -> None:
    server = await servers()
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        server.transactions[0].answer = Response(550, "5.7.1 no\nbecause\x07of ünicode")
        answer = await client.data(message())
    assert answer.code == 550 and answer.message.split("\n") == ["5.7.1 no", "because?of ?nicode"]


async def test_a_body_is_the_callers_to_read_again(servers: Any) -> None:
    """Small messages come whole, so that an upstream may read them as often as it likes."""
    server = await servers()
    async with Dialogue.open(server.address) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.data(message())).code == 250
    body = server.transactions[0].steps[-1].body
    assert isinstance(body, BytesBody) and await body.read() == await body.read() == message()
