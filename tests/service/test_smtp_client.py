"""The gateway's SMTP client against servers that are scripted line by line."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.blob.stream import StreamBody
from koukan.config.gateway import SmtpHostConfig
from koukan.dev.files import prepare
from koukan.model import EsmtpParam, HostPort, Mailbox, Step, StepResult
from koukan.smtp.client import SmtpUpstream
from koukan.smtp.connection import ConnectionBroken, connect
from koukan.smtp.pool import ConnectionPool
from tests.support.house import eventually

ANN, BOB = Mailbox("ann@example.net"), Mailbox("bob@example.com")
EHLO = "250-peer\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 1000"
OK = "250 2.0.0 ok"

#: what the server answers to a command line; None: it hangs up
Script = Callable[[str], str | None]


class ScriptedServer:
    """Answers every line by a script, and takes messages after 354."""

    def __init__(self, script: Script, greeting: str = "220 peer ESMTP", tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.lines: list[str] = []
        self.connections = 0
        self.open = 0
        self.messages: list[bytes] = []
        self._greeting = greeting
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.address = HostPort("", 0)

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = HostPort(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        writer.write(f"{self._greeting}\r\n".encode())
        try:
            while line := (await reader.readline()).decode().rstrip("\r\n"):
                self.lines.append(line)
                if line.startswith("BDAT "):
                    self.messages.append(await reader.readexactly(int(line.split()[1])))
                answer = self.script(line)
                if answer is None:
                    break
                writer.write(f"{answer}\r\n".encode())
                if answer.startswith("354"):
                    await self._message(reader, writer)
                elif line == "STARTTLS" and self._tls is not None and answer.startswith("220"):
                    await writer.start_tls(self._tls)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client went away, which is some tests' point
        finally:
            self.open -= 1
            writer.close()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.readuntil(b"\r\n.\r\n")
        self.messages.append(message)
        answer = self.script("<dot>")
        if answer is None:
            raise ConnectionResetError
        writer.write(f"{answer}\r\n".encode())


def polite(line: str) -> str | None:
    verb = line.partition(" ")[0]
    return {"EHLO": EHLO, "LHLO": EHLO, "DATA": "354 go ahead", "QUIT": "221 bye"}.get(verb, OK)


def answering(**answers: str | None) -> Script:
    """A polite server but for these: by verb, `dot` for the end of data."""
    known = {("<dot>" if verb == "dot" else verb): answer for verb, answer in answers.items()}
    return lambda line: known[v] if (v := line.partition(" ")[0]) in known else polite(line)


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool()
    yield pool
    await pool.close()


def host(**options: Any) -> SmtpHostConfig:
    return SmtpHostConfig.model_validate({"ehlo_host": "us.example", "timeout": 5, "tls": {"mode": "none"}, **options})


async def deliver(
    pool: ConnectionPool,
    address: HostPort,
    config: SmtpHostConfig | None = None,
    body: bytes = b"hello\r\n",
    **step: Any,
) -> StepResult:
    upstream = SmtpUpstream(pool, config or host(), address)
    result = await upstream.step(Step(step.get("mail", ANN), step.get("rcpts", [BOB]), BytesBody(body)))
    await upstream.cancel()
    return result


def codes(result: StepResult) -> tuple[int | None, list[int], int | None]:
    return (
        result.mail.code if result.mail else None,
        [rcpt.code for rcpt in result.rcpt],
        result.data.code if result.data else None,
    )


async def test_a_message_with_everything_stuffed_that_must_be(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        result = await deliver(pool, server.address, body=b".\r\n..x\r\nno line end")
    assert codes(result) == (250, [250], 250)
    assert server.messages == [b"..\r\n...x\r\nno line end\r\n.\r\n"]


async def test_a_connection_serves_the_next_message_after_rset(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        for _ in range(3):
            assert codes(await deliver(pool, server.address)) == (250, [250], 250)
        await pool.close()
    assert server.connections == 1
    assert [line.split(" ")[0] for line in server.lines if line != "QUIT"] == [
        "EHLO", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA",
    ]  # fmt: skip


async def test_a_server_that_hung_up_meanwhile_costs_one_new_connection(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        assert codes(await deliver(pool, server.address)) == (250, [250], 250)
        first = server.script

        def hang_up_on_reuse(line: str) -> str | None:
            return None if line == "RSET" else first(line)

        server.script = hang_up_on_reuse
        assert codes(await deliver(pool, server.address)) == (250, [250], 250)
    assert server.connections == 2 and len(server.messages) == 2


async def test_a_connection_whose_rset_is_refused_is_closed(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        await deliver(pool, server.address)
        first = server.script
        server.script = lambda line: "502 5.5.1 what?" if line == "RSET" else first(line)
        assert codes(await deliver(pool, server.address)) == (250, [250], 250)
        await eventually(lambda: server.open == 1)
        await pool.close()
    assert server.connections == 2 and len(server.messages) == 2


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"MAIL": "451 4.3.0 later"}, (451, [451], 451)),
        ({"MAIL": "550 5.7.1 no"}, (550, [550], 550)),
        ({"RCPT": "550 5.1.1 who"}, (250, [550], 554)),
        ({"RCPT": "450 4.2.0 later"}, (250, [450], 450)),
        ({"DATA": "554 5.5.1 refused"}, (250, [250], 554)),
        ({"dot": "554 5.7.1 spam"}, (250, [250], 554)),
        ({"dot": "452 4.3.1 full"}, (250, [250], 452)),
        ({"EHLO": "421 4.3.2 down"}, (421, [421], 421)),
        ({"EHLO": "250 peer"}, (250, [250], 250)),
        ({"MAIL": None}, (450, [450], 450)),
        ({"RCPT": None}, (450, [450], 450)),
        ({"DATA": None}, (250, [250], 450)),
        ({"dot": None}, (250, [250], 450)),
        ({"MAIL": "this is no reply"}, (450, [450], 450)),
    ],
    ids=str,
)
async def test_the_class_of_every_answer_is_kept(
    pool: ConnectionPool, answers: dict[str, str | None], expected: tuple[int, list[int], int]
) -> None:
    async with ScriptedServer(answering(**answers)) as server:
        assert codes(await deliver(pool, server.address)) == expected


async def test_greetings(pool: ConnectionPool) -> None:
    for greeting, code in (("220-one\r\n220 two", 250), ("554 no service", 554), ("421 busy", 421)):
        async with ScriptedServer(polite, greeting) as server:
            result = await deliver(pool, server.address)
            assert result.mail is not None and result.mail.code == code


async def test_helo_where_ehlo_is_unknown(pool: ConnectionPool) -> None:
    async with ScriptedServer(answering(EHLO="502 what")) as server:
        assert codes(await deliver(pool, server.address)) == (250, [250], 250)
    assert "HELO us.example" in server.lines


async def test_a_reply_of_several_lines_is_one_answer(pool: ConnectionPool) -> None:
    async with ScriptedServer(answering(dot="550-5.7.1 first\r\n550 5.7.1 second")) as server:
        result = await deliver(pool, server.address)
    assert result.data is not None and result.data.message == "5.7.1 first\n5.7.1 second"


async def test_nobody_there_is_a_temporary_failure(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        address = server.address
    assert codes(await deliver(pool, address)) == (450, [450], 450)
    assert codes(await deliver(pool, HostPort("mx.example.com", 25))) == (450, [450], 450)


async def test_a_silent_server_is_given_up_in_time(pool: ConnectionPool, caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer(polite, greeting="220-it never") as server:
        result = await deliver(pool, server.address, host(timeout=0.2))
    assert result.mail is not None and result.mail.temporary and "did not reply" in caplog.text


@pytest.mark.parametrize(
    ("param", "sent"),
    [
        (EsmtpParam("BODY", "7BIT"), "BODY=7BIT"),
        (EsmtpParam("BODY", "8BITMIME"), "BODY=8BITMIME"),
        (EsmtpParam("SIZE", "900"), "SIZE=900"),
        (EsmtpParam("RET", "HDRS"), ""),
        (EsmtpParam("SIZE", "1001"), 552),
        (EsmtpParam("SMTPUTF8"), 553),
        (EsmtpParam("FUTURERELEASE", "1"), 504),
    ],
    ids=str,
)
async def test_parameters(pool: ConnectionPool, param: EsmtpParam, sent: str | int) -> None:
    async with ScriptedServer(polite) as server:
        result = await deliver(pool, server.address, mail=Mailbox("ann@example.net", (param,)))
    if isinstance(sent, int):
        assert result.mail is not None and result.mail.code == sent
    else:
        assert f"MAIL FROM:<ann@example.net> {sent}".rstrip() in server.lines


@pytest.mark.parametrize("size", ["", " 0"])
async def test_no_size_limit_is_none(pool: ConnectionPool, size: str) -> None:
    async with ScriptedServer(answering(EHLO=f"250-peer\r\n250 SIZE{size}")) as server:
        mail = Mailbox("ann@example.net", (EsmtpParam("SIZE", "50000000"),))
        assert codes(await deliver(pool, server.address, mail=mail)) == (250, [250], 250)


async def test_several_recipients_of_whom_some_are_refused(pool: ConnectionPool) -> None:
    def script(line: str) -> str | None:
        return "550 5.1.1 who" if "carl" in line else polite(line)

    async with ScriptedServer(script) as server:
        rcpts = [BOB, Mailbox("carl@example.com"), Mailbox("dora@example.com")]
        assert codes(await deliver(pool, server.address, rcpts=rcpts)) == (250, [250, 550, 250], 250)


async def test_bdat_where_it_is_wanted_and_offered(pool: ConnectionPool) -> None:
    async with ScriptedServer(answering(EHLO="250-peer\r\n250 CHUNKING")) as server:
        result = await deliver(pool, server.address, host(enable_bdat=True, chunk_size=10), b"0123456789\r\nabc\r\n")
    assert result.data is not None and result.data.code == 250
    assert [line for line in server.lines if line.startswith("BDAT")] == ["BDAT 10", "BDAT 7 LAST"]
    assert server.messages == [b"0123456789", b"\r\nabc\r\n"]


async def test_a_body_that_breaks_off_is_never_finished(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        upstream = SmtpUpstream(pool, host(), server.address)
        body = StreamBody()
        await body.write(b"half a mess")
        sending = asyncio.create_task(upstream.step(Step(ANN, [BOB], body)))
        await asyncio.sleep(0.1)  # DATA is under way: the server has half of it
        body.abort("the client went away")
        result = await sending
        await upstream.cancel()
    assert result.data is not None and result.data.code == 451
    assert server.messages == []


async def test_lmtp_greets_by_its_name(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        result = await deliver(pool, server.address, host(protocol="lmtp"))
        assert codes(result) == (250, [250], 250)
    assert server.lines[0] == "LHLO us.example"


async def test_lmtp_takes_one_recipient_and_the_others_come_again(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite) as server:
        result = await deliver(pool, server.address, host(protocol="lmtp"), rcpts=[BOB, Mailbox("carl@example.com")])
        assert codes(result) == (250, [250, 450], 250)
    assert sum(line.startswith("RCPT") for line in server.lines) == 1


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    prepare(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    return context


WITH_TLS = answering(EHLO="250-peer\r\n250-STARTTLS\r\n250 PIPELINING", STARTTLS="220 go")


@pytest.mark.parametrize(
    ("mode", "offered", "code", "connections"),
    [
        ("may", True, 250, 1),
        ("may", False, 250, 1),
        ("encrypt", True, 250, 1),
        ("encrypt", False, 450, 1),
        ("verify", False, 450, 1),
    ],
)
async def test_tls_by_policy(
    pool: ConnectionPool, server_tls: ssl.SSLContext, mode: str, offered: bool, code: int, connections: int
) -> None:
    async with ScriptedServer(WITH_TLS if offered else polite, tls=server_tls) as server:
        result = await deliver(pool, server.address, host(tls={"mode": mode}))
    assert result.mail is not None and result.mail.code == code
    assert ("STARTTLS" in server.lines) == offered
    assert server.connections == connections


async def test_a_certificate_is_verified_where_the_policy_says_so(
    pool: ConnectionPool, server_tls: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(WITH_TLS, tls=server_tls) as server:
        stranger = await deliver(pool, server.address, host(tls={"mode": "verify"}))
        known = await deliver(pool, server.address, host(tls={"mode": "verify", "ca_file": str(tmp_path / "tls.crt")}))
    assert stranger.mail is not None and stranger.mail.temporary and "certificate" in caplog.text
    assert known.mail is not None and known.mail.ok


async def test_where_tls_is_optional_a_failed_handshake_means_a_new_connection_in_clear(pool: ConnectionPool) -> None:
    async with ScriptedServer(answering(EHLO="250-peer\r\n250 STARTTLS", STARTTLS="454 not now")) as server:
        assert codes(await deliver(pool, server.address, host(tls={"mode": "may"}))) == (250, [250], 250)
    assert server.connections == 2


async def test_a_reply_to_nothing_never_counts_for_the_message(
    pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(
        answering(DATA="354 go ahead\r\n250 2.0.0 of something else", dot="451 4.3.0 no")
    ) as server:
        result = await deliver(pool, server.address)
    assert result.data is not None and result.data.code == 450 and "nobody had asked for" in caplog.text


async def test_a_server_that_answers_before_the_end_is_not_asked_again(pool: ConnectionPool) -> None:
    """What it says after the dot would be taken for the answer to the next message."""
    async with ScriptedServer(answering(DATA="354 go ahead\r\n452 4.3.1 full", dot="250 2.0.0 ok after all")) as server:
        assert codes(await deliver(pool, server.address)) == (250, [250], 452)
        await deliver(pool, server.address)
        await pool.close()
    assert server.connections == 2


async def test_a_refusal_within_the_message_is_its_answer(pool: ConnectionPool) -> None:
    async with ScriptedServer(answering(DATA="354 go ahead\r\n552 5.3.4 too big already", dot=None)) as server:
        assert codes(await deliver(pool, server.address)) == (250, [250], 552)


async def test_a_flood_of_replies_is_cut_off(pool: ConnectionPool) -> None:
    async with ScriptedServer(polite, "\r\n".join(["421 busy"] * 20_000)) as server:
        connection = await connect(server.address, 5)
        async with asyncio.timeout(5):
            while True:
                try:
                    connection.write(b"NOOP\r\n")
                except ConnectionBroken as error:
                    assert "without being asked" in str(error)
                    break
                await asyncio.sleep(0.01)
