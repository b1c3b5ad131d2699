"""The SMTP client: one transaction on a mail server, as an Upstream (RFC 5321, RFC 2033 for LMTP)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import ip_address

from koukan.config.gateway import SmtpHostConfig
from koukan.errors import BodyAborted
from koukan.model import BODY_ABORTED, Body, EsmtpParam, HostPort, Mailbox, Response, Step, StepResult, Upstream
from koukan.smtp.connection import (
    COMMAND_TIMEOUT,
    DATA_BLOCK_TIMEOUT,
    DATA_COMMAND_TIMEOUT,
    DATA_END_TIMEOUT,
    ConnectionBroken,
    Extensions,
    SmtpConnection,
    stage_timeout,
)
from koukan.smtp.handshake import Refused
from koukan.smtp.pool import ConnectionPool

logger = logging.getLogger("koukan.smtp")

_NO_HOST = Response(450, "4.4.4 no remote_host to connect to")
_LOST = Response(450, "4.4.2 the connection to the mail server was lost")
_NO_RECIPIENTS = Response(554, "5.5.1 no valid recipients")
_ONE_LMTP_RECIPIENT = Response(450, "4.5.3 one recipient per LMTP transaction")
_MAIL_FIRST = Response(503, "5.5.1 MAIL first")

#: parameters of MAIL that may be left out where the server does not know them: it loses nothing but advance notice
_HARMLESS = frozenset({"SIZE", "BODY", "RET", "ENVID", "AUTH"})


class SmtpUpstream(Upstream):
    """One mail transaction. The connection comes from the pool and goes back there after a clean end."""

    def __init__(self, pool: ConnectionPool, host: SmtpHostConfig, address: HostPort | None) -> None:
        self._pool = pool
        self._host = host
        self._address = address
        self._connection: SmtpConnection | None = None
        self._mail_failure: Response | None = None
        self._rcpts: list[Response] = []

    async def step(self, step: Step) -> StepResult:
        result = StepResult()
        if step.mail_from is not None:
            await self._begin(step.mail_from, step.rcpt_to, result)
        elif step.rcpt_to:
            result.rcpt = await self._more_recipients(step.rcpt_to)
        self._rcpts += result.rcpt
        if step.body is not None:
            result.data = await self._data(step.body)
            self._release(reuse=True)
        elif self._mail_failure is not None:
            self._release(reuse=True)
        return result

    async def heartbeat(self) -> None:
        """Keeps nothing alive: the server's own timeouts are minutes, and NOOP would reset them for clients that are dead."""

    async def cancel(self) -> None:
        self._release(reuse=False)

    # --- envelope ------------------------------------------------------------------------------------------------------

    async def _begin(self, mail_from: Mailbox, rcpts: Sequence[Mailbox], result: StepResult) -> None:
        try:
            await self._envelope(mail_from, rcpts, result)
        except Refused as refused:
            result.mail = refused.response
        except ConnectionBroken as error:
            result.mail = self._trouble("4.4.1 the mail server cannot be reached, or hung up", error)
            self._drop()
        if result.mail is None or result.mail.failed:
            self._mail_failure = result.mail or _NO_HOST
            missing = len(rcpts) - len(result.rcpt)
            result.rcpt = [*result.rcpt, *[self._mail_failure.precondition("MAIL")] * missing]

    async def _envelope(self, mail_from: Mailbox, rcpts: Sequence[Mailbox], result: StepResult) -> None:
        address = self._address
        if address is None:
            raise Refused(_NO_HOST)
        if not _is_literal(address.host):
            logger.warning("%s: remote_host is no IP address", address)
            raise Refused(Response(450, "4.4.4 the host to connect to is no IP address"))
        connection, used = await self._pool.take(address, self._host)
        try:
            await self._mail_and_rcpts(connection, mail_from, rcpts, result, used)
        except ConnectionBroken:
            if not used or result.mail is not None:
                raise
            # The server hung up between messages, as it may: nothing of this one was said on that connection yet.
            connection = await self._pool.open(address, self._host)
            await self._mail_and_rcpts(connection, mail_from, rcpts, result, False)

    async def _mail_and_rcpts(
        self,
        connection: SmtpConnection,
        mail_from: Mailbox,
        rcpts: Sequence[Mailbox],
        result: StepResult,
        used: bool,
    ) -> None:
        self._connection = connection
        lines = ["RSET"] if used else []
        mail = _command("MAIL FROM:", mail_from, connection.extensions)
        lines.append(mail)
        taken = rcpts[:1] if self._host.protocol == "lmtp" else rcpts
        lines += [_command("RCPT TO:", rcpt, connection.extensions) for rcpt in taken]
        timeout = stage_timeout(self._host, COMMAND_TIMEOUT)
        if connection.extensions.offers("PIPELINING"):
            answers = await connection.commands(lines, timeout)
        else:
            answers = await self._one_by_one(connection, lines, timeout)
        if used:
            rset = answers.pop(0)
            if rset.failed:
                self._drop()
                raise ConnectionBroken(f"RSET was answered {rset}")
        result.mail = answers.pop(0)
        result.rcpt = [*answers, *[_ONE_LMTP_RECIPIENT] * (len(rcpts) - len(taken))]
        if result.mail.failed:
            result.rcpt = []

    async def _one_by_one(self, connection: SmtpConnection, lines: Sequence[str], timeout: float) -> list[Response]:
        answers: list[Response] = []
        for line in lines:
            answers.append(await connection.command(line, timeout))
            if answers[-1].failed and not line.startswith("RCPT"):
                answers += [answers[-1]] * (len(lines) - len(answers))
                break
        return answers

    async def _more_recipients(self, rcpts: Sequence[Mailbox]) -> list[Response]:
        connection = self._connection
        if connection is None:
            failure = self._mail_failure.precondition("MAIL") if self._mail_failure is not None else _MAIL_FIRST
            return [failure] * len(rcpts)
        if self._host.protocol == "lmtp":
            return [_ONE_LMTP_RECIPIENT] * len(rcpts)
        timeout = stage_timeout(self._host, COMMAND_TIMEOUT)
        answers: list[Response] = []
        try:
            lines = [_command("RCPT TO:", rcpt, connection.extensions) for rcpt in rcpts]
            if connection.extensions.offers("PIPELINING"):
                answers = await connection.commands(lines, timeout)
            else:
                answers = await self._one_by_one(connection, lines, timeout)
        except Refused as refused:
            return [refused.response] * len(rcpts)
        except ConnectionBroken as error:
            self._drop()
            broken = self._trouble("4.4.2 the connection to the mail server was lost", error)
            answers += [broken] * (len(rcpts) - len(answers))
        return answers

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        if not any(answer.ok for answer in self._rcpts):
            temporary = next((a for a in self._rcpts if a.temporary), None)
            return _NO_RECIPIENTS if temporary is None else temporary.precondition("all rcpts failed")
        connection = self._connection
        if connection is None:
            return _LOST
        limit = connection.extensions.size_limit
        if limit is not None and body.length is not None and body.length > limit:
            return Response(552, f"5.3.4 the server takes messages of {limit} bytes at most")
        try:
            return await self._send(connection, body)
        except BodyAborted:
            # No final dot: the server must never take half a message for a whole one.
            self._drop()
            return BODY_ABORTED
        except ConnectionBroken as error:
            self._drop()
            return self._trouble("4.4.2 the connection to the mail server was lost", error)

    async def _send(self, connection: SmtpConnection, body: Body) -> Response:
        host = self._host
        block = stage_timeout(host, DATA_BLOCK_TIMEOUT)
        if host.enable_bdat and connection.extensions.offers("CHUNKING"):
            return await connection.send_bdat(body, host.chunk_size, block)
        answer = await connection.command("DATA", stage_timeout(host, DATA_COMMAND_TIMEOUT))
        if answer.code != 354:
            return answer if answer.failed else Response(450, f"4.5.0 DATA was answered {answer}")
        await connection.send_dotted(body, block)
        try:
            return await connection.reply(stage_timeout(host, DATA_END_TIMEOUT))
        except ConnectionBroken as error:
            logger.warning("%s: no answer to the end of data, possibly a duplicate to come: %s", self._address, error)
            raise

    def _trouble(self, text: str, error: ConnectionBroken) -> Response:
        """What others hear of an error: not which host it was, nor what the system says; that is the log's."""
        logger.warning("%s: %s", self._address, error)
        return Response(450, text)

    # --- the connection ------------------------------------------------------------------------------------------------

    def _release(self, *, reuse: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None or self._address is None:
            return
        if reuse:
            self._pool.give_back(self._address, self._host, connection)
        else:
            connection.abort()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


def _command(verb: str, mailbox: Mailbox, extensions: Extensions) -> str:
    """MAIL or RCPT with the parameters that the server knows. Raises Refused for one that it must know and does not."""
    params = [param for param in mailbox.params if _keep(param, extensions)]
    if not mailbox.address.isascii() and not extensions.offers("SMTPUTF8"):
        raise Refused(Response(553, "5.6.7 the server does not take internationalized addresses"))
    return " ".join([f"{verb}<{mailbox.address}>", *map(str, params)])


def _keep(param: EsmtpParam, extensions: Extensions) -> bool:
    keyword = param.keyword.upper()
    if keyword == "SIZE":
        size, limit = (param.value or "").strip(), extensions.size_limit
        if limit is not None and size.isdigit() and int(size) > limit:
            raise Refused(Response(552, f"5.3.4 the server takes messages of {limit} bytes at most"))
        return extensions.offers("SIZE")
    if keyword == "BODY":
        # 7BIT is what every server takes without being told; 8BITMIME is told to those that know it.
        return extensions.offers("8BITMIME")
    if extensions.offers(keyword) or (keyword in ("RET", "ENVID", "NOTIFY", "ORCPT") and extensions.offers("DSN")):
        return True
    if keyword == "SMTPUTF8":
        raise Refused(Response(553, "5.6.7 the server does not take internationalized mail"))
    if keyword in _HARMLESS or keyword in ("NOTIFY", "ORCPT"):
        return False
    raise Refused(Response(504, f"5.5.4 parameter {keyword} is not supported by the server"))


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
