"""A mail server that takes everything, keeps it in a directory, and fails on request.

The beginning of a local part asks for a failure, as in the test server of the existing Koukan:

    sender     mailtemp…  mailperm…                           450 and 550 at MAIL
    recipient  rcpttemp…  rcptperm…  unknown…  rcpttimeout…   450, 550, 550 and silence at RCPT
               datatemp…  dataperm…  datatimeout…             450, 550 and silence at the end of the data
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from koukan.dev.output import make_directory
from koukan.errors import StartupError
from koukan.model import HostPort

#: bytes of the largest message; more than a gateway takes, so that it is never the sink that refuses
MESSAGE_LIMIT = 64 * 1024 * 1024
#: recorded messages that are kept in memory; the directory keeps all
_MEMORY = 10_000

_SILENCE = "silence"
_AT_MAIL = {"mailtemp": "450 4.3.2 mail temp", "mailperm": "550 5.7.1 mail perm"}
_AT_RCPT = {
    "rcpttimeout": _SILENCE,
    "rcpttemp": "450 4.2.1 rcpt temp",
    "rcptperm": "550 5.2.1 rcpt perm",
    "unknown": "550 5.1.1 no such user here",
}
_AT_DATA = {"datatimeout": _SILENCE, "datatemp": "450 4.2.0 data temp", "dataperm": "550 5.7.0 data perm"}
_RECEIVED_ID = re.compile(r"\bid\s+(\S+?)[\s;]")


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One message as it arrived."""

    number: int
    mail_from: str
    rcpt_to: Sequence[str]
    content: bytes = field(repr=False)

    @property
    def subject(self) -> str:
        return str(self._headers.get("subject", ""))

    @property
    def transaction(self) -> str | None:
        """The router's transaction, by the newest Received header."""
        found = _RECEIVED_ID.search(f"{self._headers.get('received', '')} ")
        return found[1] if found else None

    @property
    def _headers(self) -> Any:
        return BytesHeaderParser(policy=default).parsebytes(self.content)


class MailSink:
    """The server. `received` holds what has arrived, the newest last."""

    def __init__(
        self, directory: Path | None = None, arrived: Callable[[ReceivedMail], None] = lambda mail: None
    ) -> None:
        self.received: list[ReceivedMail] = []
        self.address = HostPort("", 0)
        self._directory = directory
        self._arrived = arrived
        self._at_rcpt = dict(_AT_RCPT)
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._connections: set[SMTP] = set()

    async def start(self, address: HostPort) -> None:
        """Listen. Raises StartupError when the address is taken."""
        if self._directory is not None:
            make_directory(self._directory)
            kept = [int(path.stem) for path in self._directory.glob("[0-9]*.eml")]
            self._numbers = itertools.count(max(kept, default=0) + 1)
        try:
            self._server = await asyncio.get_running_loop().create_server(self._session, address.host, address.port)
        except OSError as error:
            raise StartupError(f"mail sink: cannot listen on {address}: {error.strerror or error}") from None
        self.address = HostPort(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            for session in list(self._connections):
                if session.transport is not None:
                    cast("asyncio.Transport", session.transport).abort()
            self._connections.clear()
            await self._server.wait_closed()
            self._server = None

    def fail(self, prefix: str, answer: str) -> None:
        """Answer RCPT so for local parts that begin with `prefix`, from now on."""
        self._at_rcpt[prefix] = answer

    def take(self, prefix: str) -> None:
        """Take those recipients again."""
        del self._at_rcpt[prefix]

    def _session(self) -> SMTP:
        # aiosmtpd asks DNS for its own name unless it is given one.
        session = SMTP(self, hostname="sink.localhost", data_size_limit=MESSAGE_LIMIT, enable_SMTPUTF8=True, timeout=60)
        self._connections = {s for s in self._connections if s.transport is not None}
        self._connections.add(session)
        return session

    # aiosmtpd calls the hooks by these names.

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        failure = await _failure(address, _AT_MAIL)
        if failure is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return failure or "250 2.1.0 ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        failure = await _failure(address, self._at_rcpt)
        if failure is None:
            envelope.rcpt_tos.append(address)
        return failure or "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        for recipient in envelope.rcpt_tos:
            failure = await _failure(recipient, _AT_DATA)
            if failure is not None:
                return failure
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        # aiosmtpd names the null sender so, and takes an empty one for none at all.
        mail_from = "" if envelope.mail_from in (None, "<>") else envelope.mail_from
        mail = ReceivedMail(next(self._numbers), mail_from, tuple(envelope.rcpt_tos), content)
        if self._directory is not None:
            (self._directory / f"{mail.number:06}.eml").write_bytes(content)
        self.received.append(mail)
        del self.received[:-_MEMORY]
        self._arrived(mail)
        return "250 2.6.0 Message accepted for delivery"


async def _failure(address: str, answers: dict[str, str]) -> str | None:
    local = address.lower().lstrip('<"')
    failure = next((answer for prefix, answer in answers.items() if local.startswith(prefix)), None)
    if failure == _SILENCE:
        await asyncio.get_running_loop().create_future()  # until the client hangs up
    return failure
