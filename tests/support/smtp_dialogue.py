"""An SMTP client for tests: raw commands, raw replies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from koukan.model import HostPort, Response

TIMEOUT = 30.0


class Dialogue:
    """One connection. `command` sends a line and answers the reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: HostPort, *, tls: ssl.SSLContext | None = None, hello: str = "client.example"
    ) -> AsyncIterator[Self]:
        """Connect, read the greeting, say EHLO; hang up at the end."""
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
        dialogue = cls(reader, writer)
        try:
            assert (await dialogue.reply()).code == 220
            assert (await dialogue.command(f"EHLO {hello}")).code == 250
            yield dialogue
        finally:
            await dialogue.close()

    async def reply(self) -> Response:
        lines: list[str] = []
        async with asyncio.timeout(TIMEOUT):
            while True:
                line = (await self.reader.readline()).decode().rstrip("\r\n")
                if not line:
                    raise ConnectionResetError("the server hung up")
                lines.append(line[4:])
                if line[3:4] != "-":
                    return Response(int(line[:3]), "\n".join(lines))

    async def command(self, line: str) -> Response:
        self.writer.write(f"{line}\r\n".encode())
        return await self.reply()

    async def envelope(self, mail_from: str, rcpt_to: Sequence[str]) -> list[Response]:
        """MAIL and RCPTs; the replies in order."""
        replies = [await self.command(f"MAIL FROM:<{mail_from}>")]
        return replies + [await self.command(f"RCPT TO:<{rcpt}>") for rcpt in rcpt_to]

    async def data(self, message: bytes) -> Response:
        """DATA and the message; the final reply, or the one to DATA when it is none of success."""
        go_ahead = await self.command("DATA")
        if go_ahead.code != 354:
            return go_ahead
        self.writer.write(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        await self.writer.drain()
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        assert (await self.command("STARTTLS")).code == 220
        await self.writer.start_tls(context, server_hostname="localhost")

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


async def send(address: HostPort, mail_from: str, rcpt_to: Sequence[str], message: bytes) -> list[Response]:
    """One message over a connection of its own; every reply from MAIL on."""
    async with Dialogue.open(address) as dialogue:
        replies = await dialogue.envelope(mail_from, rcpt_to)
        replies.append(await dialogue.data(message))
        return replies


def message(subject: str = "test", body: str = "hello\r\n", sender: str = "ann@example.net") -> bytes:
    """A small valid message."""
    return (
        f"From: {sender}\r\nTo: bob@example.com\r\nSubject: {subject}\r\n"
        f"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{subject.replace(' ', '.')}@example.net>\r\n\r\n{body}"
    ).encode()
