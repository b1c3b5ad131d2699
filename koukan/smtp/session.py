"""One SMTP conversation: commands in, steps to an upstream, replies out.

A subclass of aiosmtpd's protocol. Kept from it: the stream, AUTH PLAIN and LOGIN, the PROXY parser. Replaced, because

* its command loop shares command size limits between connections, logs every line and answers errors with a permanent 500;
* its DATA reads line by line and holds the whole message;
* its MAIL and RCPT upper-case parameter values and know no timeouts that are temporary failures;
* its STARTTLS is offered again inside TLS, and AUTH is not offered on implicit TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from koukan.errors import BodyAborted
from koukan.model import INTERNAL_ERROR, HostPort, Response, SmtpMeta
from koukan.net.proxy_protocol import read_header
from koukan.net.tls import connection_details
from koukan.smtp.replies import render
from koukan.smtp.transaction import Conversation, MailTransaction

if TYPE_CHECKING:
    from koukan.smtp.server import SmtpListener

logger = logging.getLogger("koukan.smtp")

#: bytes of a command line: RFC 5321 §4.5.3.1.4 asks for 512, extensions add to MAIL and RCPT
COMMAND_LIMIT = 2048
#: commands that are no commands, or come at the wrong time, before the connection is closed
ERROR_LIMIT = 20
#: failed AUTH commands before the connection is closed
AUTH_FAILURE_LIMIT = 3
#: seconds for a TLS handshake
HANDSHAKE_TIMEOUT = 30

_OK = Response(250, "2.0.0 ok")
_BYE = Response(221, "2.0.0 bye")
_GO_AHEAD = Response(354, "end data with <CR><LF>.<CR><LF>")
_TIMEOUT = Response(421, "4.4.2 timeout, closing connection")
_DRAINING = Response(421, "4.3.2 service shutting down, try again later")
_TOO_MANY_ERRORS = Response(421, "4.7.0 too many errors, closing connection")
_TOO_LONG = Response(500, "5.5.6 line too long")
_SYNTAX = Response(500, "5.5.2 bad syntax")
_UNKNOWN = Response(500, "5.5.1 command not recognized")
_HELLO_FIRST = Response(503, "5.5.1 send EHLO first")
_NO_TLS = Response(454, "4.7.0 TLS not available")
_TLS_ACTIVE = Response(503, "5.5.1 TLS is active already")
_NO_AUTH = Response(502, "5.5.1 AUTH not available")
_AUTH_NEEDS_TLS = Response(538, "5.7.11 encryption required for requested authentication mechanism")


Command = Callable[[str | None], Awaitable[None]]


class _Session(Session):
    """aiosmtpd's own warns of `login_data` whenever it sets it."""

    login_data: object = None


class SmtpSession(SMTP):
    """The protocol of one connection."""

    # What the stream buffers before it stops reading; aiosmtpd's own value is a line, which makes DATA crawl.
    line_length_limit = 64 * 1024

    def __init__(self, listener: SmtpListener) -> None:
        limits = listener.config.limits
        super().__init__(
            None,
            hostname=listener.hostname,
            enable_SMTPUTF8=True,
            timeout=limits.command_timeout,
            auth_require_tls=False,  # decided in smtp_AUTH, for implicit TLS too
            authenticator=self._check_password,
            loop=asyncio.get_running_loop(),
        )
        self._listener = listener
        self._commands: dict[str, Command] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
            "VRFY": self._vrfy,
            "HELP": self._help,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
        }
        self._client = ""
        self._remote: HostPort | None = None
        self._local: HostPort | None = None
        self._refused: Response | None = None
        self._errors = 0
        self._auth_failures = 0
        self._busy = False
        self._deadline = 0.0
        self._over_tls = False
        self._transaction = MailTransaction(listener)
        self.ended: asyncio.Future[None] = self.loop.create_future()

    def _create_session(self) -> Session:
        return _Session(self.loop)

    def __dir__(self) -> list[str]:
        # aiosmtpd's constructor looks through dir() twice for methods of these kinds, evaluating every property on its way:
        # more work than all the commands of a message. These are what it finds.
        return ["auth_LOGIN", "auth_PLAIN", "smtp_AUTH"]

    # --- the connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._remote = HostPort.of(transport.get_extra_info("peername"))
        self._local = HostPort.of(transport.get_extra_info("sockname"))
        self._client = self._remote.host if self._remote is not None else ""
        self._over_tls = transport.get_extra_info("ssl_object") is not None
        self._refused = self._listener.admit(self, self._client)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._listener.leave(self, self._client)
        self._transaction.abandon()
        if not self.ended.done():
            self.ended.set_result(None)

    def drain(self) -> None:
        """The listener stops: leave at once when nothing is going on, else at the next command outside a message."""
        if not self._busy and not self._transaction.open:
            self._say(_DRAINING)
            self._hang_up()

    def abort(self) -> None:
        """The listener has stopped: close the connection."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def _reset_timeout(self, duration: float | None = None) -> None:
        # One timer that looks at a deadline, instead of aiosmtpd's new timer for every command.
        self._deadline = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if self._busy or now < self._deadline:
            later = max(self._deadline, now + 1)
            self._timeout_handle = self.loop.call_at(later, self._timeout_cb)
        elif self.transport is not None:
            self._say(_TIMEOUT)
            self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _say(self, response: Response) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._writer.write(render(response))

    async def _reply(self, response: Response) -> None:
        self._say(response)
        if response.code >= 500 or response.code == 421:
            self._errors += 1
        await self._writer.drain()

    # --- the command loop ----------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            if self._refused is not None:
                self._say(self._refused)
                return
            if not await self._proxy_header():
                return
            await self._reply(Response(220, f"{self.hostname} ESMTP koukan smtp gateway"))
            while self.transport is not None and not self.transport.is_closing():
                await self._next_command()
        except (asyncio.IncompleteReadError, ConnectionError, BodyAborted):
            logger.debug("%s went away", self._client)
        except Exception:
            logger.exception("internal error in the session of %s", self._client)
            self._say(INTERNAL_ERROR)
        finally:
            self._transaction.abandon()
            self._hang_up()

    async def _next_command(self) -> None:
        line = await self._read_line()
        self._reset_timeout()
        if self._listener.draining and not self._transaction.open:
            await self._reply(_DRAINING)
            self._hang_up()
            return
        if line is None:
            await self._reply(_TOO_LONG)
        else:
            await self._dispatch(line)
        if self._errors > ERROR_LIMIT:
            await self._reply(_TOO_MANY_ERRORS)
            self._hang_up()

    async def _read_line(self) -> bytes | None:
        """A command without its line end; None when it is too long."""
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            await self._reader.readexactly(error.consumed)
            while True:
                try:
                    await self._reader.readuntil(b"\n")
                    return None
                except asyncio.LimitOverrunError as more:
                    await self._reader.readexactly(more.consumed)
        return line.rstrip(b"\r\n") if len(line) <= COMMAND_LIMIT else None

    async def _dispatch(self, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            await self._reply(_SYNTAX)
            return
        name, _, argument = text.partition(" ")
        command = self._commands.get(name.upper())
        if command is None or not text.isprintable():
            await self._reply(_UNKNOWN if command is None else _SYNTAX)
            return
        self._busy = True
        try:
            await command(argument.strip() or None)
        finally:
            self._busy = False
            self._reset_timeout()

    async def _proxy_header(self) -> bool:
        timeout = self._listener.config.proxy_protocol_timeout
        if timeout is None:
            return True
        self._reset_timeout(timeout)
        proxied = await read_header(self._reader)
        if proxied is None:
            logger.warning("%s: no valid PROXY header", self._client)
            return False
        self._remote, self._local = proxied
        self._reset_timeout()
        if self._listener.implicit_tls and self._listener.tls is not None:
            await self._upgrade(self._listener.tls)
        return True

    # --- greeting, TLS, AUTH -------------------------------------------------------------------------------------------

    async def _ehlo(self, argument: str | None) -> None:
        if not await self._hello(argument, esmtp=True):
            return
        lines = [self.hostname, f"SIZE {self._listener.config.limits.max_message_size}", "8BITMIME", "SMTPUTF8"]
        lines += ["PIPELINING", "ENHANCEDSTATUSCODES"]
        if self._listener.tls is not None and not self._over_tls:
            lines.append("STARTTLS")
        if self._may_authenticate:
            lines.append("AUTH LOGIN PLAIN")
        lines.append("HELP")
        await self._reply(Response(250, "\n".join(lines)))

    async def _helo(self, argument: str | None) -> None:
        if await self._hello(argument, esmtp=False):
            await self._reply(Response(250, self.hostname))

    async def _hello(self, argument: str | None, *, esmtp: bool) -> bool:
        if argument is None or len(argument) > 255:
            await self._reply(Response(501, "5.5.4 Syntax: EHLO hostname" if esmtp else "5.5.4 Syntax: HELO hostname"))
            return False
        self._transaction.abandon()
        self._state().extended_smtp = esmtp
        self._state().host_name = argument
        return True

    def _state(self) -> Session:
        assert self.session is not None  # from connection_made on
        return self.session

    @property
    def _may_authenticate(self) -> bool:
        return self._listener.offers_auth and self._over_tls

    async def _starttls(self, argument: str | None) -> None:
        tls = self._listener.tls
        if argument is not None:
            await self._reply(Response(501, "5.5.4 Syntax: STARTTLS"))
        elif tls is None:
            await self._reply(_NO_TLS)
        elif self._over_tls:
            await self._reply(_TLS_ACTIVE)
        else:
            self._transaction.abandon()
            # What a client, or somebody in its place, sent ahead of the handshake must not count (RFC 3207 §4.2).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await self._reader.read(self.line_length_limit * 2)
            await self._reply(Response(220, "2.0.0 ready to start TLS"))
            await self._upgrade(tls)
            self.session = self._create_session()

    async def _upgrade(self, tls: ssl.SSLContext) -> None:
        try:
            await self._writer.start_tls(tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT)
        except (ssl.SSLError, OSError) as error:
            logger.info("%s: TLS handshake failed: %s", self._client, error)
            raise ConnectionResetError("TLS handshake failed") from None
        self.transport = self._writer.transport
        self._over_tls = True

    async def _auth(self, argument: str | None) -> None:
        if not self._listener.offers_auth:
            await self._reply(_NO_AUTH)
        elif not self._over_tls:
            await self._reply(_AUTH_NEEDS_TLS)
        elif self._transaction.open:
            await self._reply(Response(503, "5.5.1 AUTH not permitted during a mail transaction"))
        else:
            mechanism, _, initial = (argument or "").partition(" ")
            await self.smtp_AUTH(f"{mechanism.upper()} {initial}".strip())
            if self._auth_failures >= AUTH_FAILURE_LIMIT:
                await self._reply(_TOO_MANY_ERRORS)
                self._hang_up()

    def _check_password(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        success = self._listener.authenticate(data.login, data.password)
        if not success:
            self._auth_failures += 1
            logger.warning("%s: AUTH %s failed", self._client, mechanism)
        return AuthResult(success=success, handled=success, auth_data=data)

    # --- the transaction -----------------------------------------------------------------------------------------------

    async def _mail(self, argument: str | None) -> None:
        if not self._state().host_name:
            await self._reply(_HELLO_FIRST)
        else:
            await self._reply(await self._transaction.mail(argument, self._conversation()))

    async def _rcpt(self, argument: str | None) -> None:
        await self._reply(await self._transaction.rcpt(argument))

    async def _data(self, argument: str | None) -> None:
        refusal = Response(501, "5.5.4 Syntax: DATA") if argument is not None else self._transaction.refuses_data()
        if refusal is not None:
            await self._reply(refusal)
            return
        await self._reply(_GO_AHEAD)
        try:
            answer = await self._transaction.receive(self._reader)
        except TimeoutError:
            self._say(_TIMEOUT)
            self._hang_up()
        else:
            await self._reply(answer)

    async def _rset(self, argument: str | None) -> None:
        self._transaction.abandon()
        await self._reply(_OK)

    async def _quit(self, argument: str | None) -> None:
        self._transaction.abandon()
        await self._reply(_BYE)
        self._hang_up()

    async def _noop(self, argument: str | None) -> None:
        await self._reply(_OK)

    async def _vrfy(self, argument: str | None) -> None:
        await self._reply(Response(252, "2.5.0 cannot VRFY user, but will accept message and attempt delivery"))

    async def _help(self, argument: str | None) -> None:
        await self._reply(Response(214, f"2.0.0 {' '.join(sorted(self._commands))}"))

    def _conversation(self) -> Conversation:
        meta = SmtpMeta(
            ehlo_host=self._state().host_name,
            esmtp=self._state().extended_smtp,
            tls=self._over_tls,
            auth=True if self._state().authenticated else None,
            extra=None if self.transport is None else connection_details(self.transport),
        )
        return Conversation(self._remote, self._local, meta)
