"""From a TCP connection to one that takes mail: greeting, EHLO or LHLO, STARTTLS by policy."""

from __future__ import annotations

import ssl

from koukan.config.gateway import SmtpHostConfig
from koukan.errors import KoukanError
from koukan.model import HostPort, Response
from koukan.smtp.connection import (
    COMMAND_TIMEOUT,
    CONNECT_TIMEOUT,
    GREETING_TIMEOUT,
    ConnectionBroken,
    Extensions,
    SmtpConnection,
    connect,
    stage_timeout,
)


class Refused(KoukanError):
    """The server, or our own policy, does not let us in; `response` is the reason."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response))
        self.response = response


async def open_connection(address: HostPort, host: SmtpHostConfig, tls: ssl.SSLContext | None) -> SmtpConnection:
    """A connection that is ready for MAIL; `tls` is None where the policy is `none`.

    Raises Refused and ConnectionBroken. Under `may`, a server whose TLS fails is connected to again, in clear.
    """
    try:
        return await _open(address, host, tls)
    except _TlsFailed as error:
        if host.tls.mode != "may":
            raise ConnectionBroken(str(error)) from None
    return await _open(address, host, None)


class _TlsFailed(ConnectionBroken):
    """STARTTLS was offered and did not work."""


async def _open(address: HostPort, host: SmtpHostConfig, tls: ssl.SSLContext | None) -> SmtpConnection:
    connection = await connect(address, stage_timeout(host, CONNECT_TIMEOUT))
    try:
        greeting = await connection.reply(stage_timeout(host, GREETING_TIMEOUT))
        if greeting.failed:
            raise Refused(greeting)
        await _hello(connection, host)
        if tls is not None:
            await _start_tls(connection, address, host, tls)
    except BaseException:
        connection.close()
        raise
    return connection


async def _hello(connection: SmtpConnection, host: SmtpHostConfig) -> None:
    timeout = stage_timeout(host, COMMAND_TIMEOUT)
    verb = "LHLO" if host.protocol == "lmtp" else "EHLO"
    answer = await connection.command(f"{verb} {host.ehlo_host}", timeout)
    if answer.ok:
        lines = answer.message.split("\n")[1:]
        pairs = (line.strip().partition(" ") for line in lines)
        connection.extensions = Extensions({keyword.upper(): value for keyword, _, value in pairs})
        return
    if answer.permanent and host.protocol == "smtp":
        # A server from before 1993, or a strict one that refuses the extended greeting (RFC 5321 §3.2).
        answer = await connection.command(f"HELO {host.ehlo_host}", timeout)
    if answer.failed:
        raise Refused(answer)


async def _start_tls(connection: SmtpConnection, address: HostPort, host: SmtpHostConfig, tls: ssl.SSLContext) -> None:
    if not connection.extensions.offers("STARTTLS"):
        if host.tls.mode != "may":
            raise Refused(Response(450, "4.7.4 the mail server does not offer the TLS that is required"))
        return
    answer = await connection.command("STARTTLS", stage_timeout(host, COMMAND_TIMEOUT))
    if answer.failed:
        raise _TlsFailed(f"STARTTLS was refused: {answer}")
    try:
        await connection.start_tls(tls, address.host)
    except ConnectionBroken as error:
        raise _TlsFailed(str(error)) from None
    await _hello(connection, host)
