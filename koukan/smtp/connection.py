"""A connection to an SMTP or LMTP server: bytes to replies, nothing about transactions (RFC 5321, RFC 2033)."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from koukan.config.gateway import SmtpHostConfig
from koukan.errors import UpstreamError
from koukan.model import Body, HostPort, Response
from koukan.smtp.dots import DotEncoder

#: seconds per stage (RFC 5321 §4.5.3.2), each capped by the host's own `timeout`
CONNECT_TIMEOUT = 30
GREETING_TIMEOUT = 300
COMMAND_TIMEOUT = 300
DATA_COMMAND_TIMEOUT = 120
DATA_BLOCK_TIMEOUT = 180
DATA_END_TIMEOUT = 600
#: bytes of a reply; a server that says more is broken or hostile
REPLY_LIMIT = 64 * 1024
#: replies that nobody has read yet: more than the recipients that are asked for in one write
REPLIES_LIMIT = 2000

_REPLY_LINE = re.compile(rb"([2-5]\d\d)([ -]?)(.*)", re.DOTALL)


class ConnectionBroken(UpstreamError):
    """The connection is gone, or what came over it was no SMTP."""


class ReplyTimeout(ConnectionBroken):
    """The server is silent."""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What EHLO offered, by upper-case keyword."""

    keywords: dict[str, str]

    def offers(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size_limit(self) -> int | None:
        """The largest message; None when there is no limit (RFC 1870: 0 and no value both mean that)."""
        value = self.keywords.get("SIZE", "").strip()
        return int(value) or None if value.isascii() and value.isdigit() else None


class SmtpConnection(asyncio.Protocol):
    """One TCP connection. Replies arrive in the order of the commands, so any number may be written ahead."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._lines: list[str] = []
        self._code = 0
        self._replies: deque[Response] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._error: ConnectionBroken | None = None
        self.extensions = Extensions({})
        self.over_tls = False
        #: messages sent, for the pool's limit
        self.messages = 0
        #: a reply came before the end of the data that it should answer: another one may follow, which would answer nothing
        self.answered_early = False

    # --- protocol ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are, but are not registered as such

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))
        if len(self._replies) > REPLIES_LIMIT:
            self._fail(ConnectionBroken("the server replies without being asked"))
        if len(self._buffer) > REPLY_LIMIT or len(self._lines) > REPLY_LIMIT // 64:
            self._fail(ConnectionBroken("the server's reply does not end"))
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionBroken(f"the server closed the connection{f': {error}' if error else ''}"))

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _line(self, line: bytes) -> None:
        found = _REPLY_LINE.fullmatch(line)
        if found is None:
            self._fail(ConnectionBroken(f"the server sent what is no reply: {line[:60]!r}"))
            return
        code, more, text = int(found[1]), found[2], found[3].decode("utf-8", "replace")
        self._lines.append(text)
        if more != b"-":
            self._replies.append(Response(code, "\n".join(self._lines)))
            self._lines = []

    def _fail(self, error: ConnectionBroken) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- use -----------------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Connected, and nothing unexpected (a 421, say) has come meanwhile."""
        return self._error is None and not self._replies and not self._buffer and not self.answered_early

    def write(self, data: bytes) -> None:
        if self._replies and self._replies[0].ok:
            # Never to be taken for the answer to what is written now: a message would count as delivered.
            self._fail(ConnectionBroken(f"the server said what nobody had asked for: {self._replies[0]}"))
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        self._transport.write(data)

    async def reply(self, timeout: float) -> Response:
        """The next reply. Raises ReplyTimeout and ConnectionBroken."""
        while not self._replies:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            silence = ReplyTimeout(f"the server did not reply within {timeout:g} s")
            timer = self._loop.call_later(timeout, self._fail, silence)
            try:
                await self._waiter
            finally:
                timer.cancel()
        return self._replies.popleft()

    async def command(self, line: str, timeout: float) -> Response:
        """Send one command and wait for its reply."""
        self.write(f"{line}\r\n".encode())
        return await self.reply(timeout)

    async def commands(self, lines: Sequence[str], timeout: float) -> list[Response]:
        """Send several commands in one write (RFC 2920) and wait for all replies."""
        self.write("".join(f"{line}\r\n" for line in lines).encode())
        return [await self.reply(timeout) for _ in lines]

    async def send_dotted(self, body: Body, timeout: float) -> None:
        """The message after 354, dots doubled, up to and including the final one."""
        encoder = DotEncoder()
        held = b""
        async for chunk in body.chunks():
            if held:
                await self._send(held, timeout)
            held = encoder.encode(chunk)
        self.answered_early = bool(self._replies)
        await self._send(held + encoder.finish(), timeout)

    async def send_bdat(self, body: Body, size: int, timeout: float) -> Response:
        """The message in BDAT chunks (RFC 3030); the reply to the last one, or the first that is none of success."""
        pending = bytearray()
        async for chunk in body.chunks():
            pending += chunk
            while len(pending) > size:
                answer = await self._bdat(bytes(pending[:size]), "", timeout)
                if answer.failed:
                    return answer
                del pending[:size]
        return await self._bdat(bytes(pending), " LAST", timeout)

    async def _bdat(self, chunk: bytes, last: str, timeout: float) -> Response:
        await self._send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk, timeout)
        return await self.reply(timeout)

    async def _send(self, data: bytes, timeout: float) -> None:
        self.write(data)
        if self._writable is not None:
            try:
                async with asyncio.timeout(timeout):
                    await self._writable
            except TimeoutError:
                self._fail(ReplyTimeout(f"the server took no data for {timeout:g} s"))
            if self._error is not None:
                raise self._error

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """The handshake after 220. Raises ConnectionBroken."""
        assert self._transport is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_hostname=server_name, ssl_handshake_timeout=CONNECT_TIMEOUT
            )
        except (ssl.SSLError, ssl.CertificateError, OSError) as error:
            self._fail(ConnectionBroken(f"TLS handshake failed: {error}"))
            raise ConnectionBroken(f"TLS handshake failed: {error}") from None
        self._transport = transport
        self.over_tls = True

    def abort(self) -> None:
        """Drop the connection with what is not written yet: a server that takes nothing must not hold it open."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection when all is written."""
        if self._transport is not None:
            self._transport.close()


def stage_timeout(host: SmtpHostConfig, stage: float) -> float:
    """Seconds for a stage: RFC 5321's, unless the host's own limit is shorter."""
    return min(stage, host.timeout)


async def connect(address: HostPort, timeout: float) -> SmtpConnection:
    """A TCP connection to an address. Raises ConnectionBroken."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(SmtpConnection, address.host, address.port)
    except TimeoutError:
        raise ReplyTimeout(f"no connection within {timeout:g} s") from None
    except OSError as error:
        raise ConnectionBroken(f"{error.strerror or error}") from None
    return connection
