"""Everything on loopback: router, gateway, mail sink and sample receiver as processes of their own."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Callable, Collection
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from koukan.blob.bodies import BytesBody
from koukan.config.gateway import SmtpHostConfig, SmtpTlsConfig
from koukan.dev import files
from koukan.dev.files import Ports
from koukan.dev.processes import Processes, Program
from koukan.dev.timeline import Timeline
from koukan.errors import StartupError
from koukan.lifecycle import Stopping
from koukan.model import HostPort, Mailbox, Step
from koukan.smtp.client import SmtpUpstream
from koukan.smtp.pool import ConnectionPool

#: seconds in which everything must be ready: a first start creates the database
READY_TIMEOUT = 60.0
#: the parts, in the order they are started
PARTS = ("sink", "receiver", "router", "gateway")


class Stack:
    """The processes. `show` prints a line for the user."""

    def __init__(self, directory: Path, ports: Ports, show: Callable[[str], None]) -> None:
        self.directory = directory.absolute()
        self.ports = ports
        self.stopping = Stopping()
        self.timeline = Timeline(show)
        self.processes = Processes(self._heard)
        self._show = show
        self._ready: set[str] = set()
        self._changed = asyncio.Event()

    async def start(self, without: Collection[str] = ()) -> None:
        """Start all parts but those in `without`, and wait until they are ready. Raises StartupError."""
        files.prepare(self.directory)
        for name in ("router.yaml", "gateway.yaml"):
            files.write_configuration(name, self.directory, self.ports)
        try:
            for name in PARTS:
                if name not in without:
                    self.processes.start(self.program(name))
            async with asyncio.timeout(READY_TIMEOUT):
                await self._all_ready(set(PARTS) - set(without))
        except TimeoutError:
            await self.stop()
            raise StartupError(f"not everything was ready within {READY_TIMEOUT:g} s; see the lines above") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        await self.processes.stop()

    async def _all_ready(self, names: Collection[str]) -> None:
        while not self._ready.issuperset(names):
            if self.processes.unusable is not None:
                raise StartupError(f"{self.processes.unusable} cannot start; its reason is above")
            self._changed.clear()
            await self._changed.wait()

    def program(self, name: str) -> Program:
        """How a part is started; the same command works in another terminal."""
        ports = self.ports
        arguments = {
            "sink": ["sink", "--listen", f"127.0.0.1:{ports.sink}", "--directory", str(self.directory / "mail")],
            "receiver": [
                "receiver", "--listen", f"127.0.0.1:{ports.receiver}", "--directory", str(self.directory / "received"),
            ],
            "router": ["router", str(self.directory / "router.yaml")],
            "gateway": ["gateway", str(self.directory / "gateway.yaml")],
        }  # fmt: skip
        return Program(name, arguments[name], {})

    def describe(self, without: Collection[str] = ()) -> str:
        """What listens where; what is left out will, once it is started by hand."""
        p = self.ports
        rows = [
            ("gateway", f"SMTP {p.mx}", "mail from outside, for example.com and bob@rest-application.example.com"),
            (
                "gateway",
                f"SMTP {p.msa}, TLS {p.smtps}",
                f"submission, to anywhere (AUTH {files.USER}:{files.USER} under TLS)",
            ),
            ("router", f"HTTP {p.router}", f"REST: http://127.0.0.1:{p.router}/senders/submission/transactions"),
            ("gateway", f"HTTP {p.gateway}", "the gateway's side towards the router"),
            ("receiver", f"HTTP {p.receiver}", "sample receiver: what bob@rest-application.example.com gets"),
            ("sink", f"SMTP {p.sink}", "mail sink: example.com and the rest of the world"),
        ]
        lines = [f"  {where:<22} {'(left out) ' if part in without else ''}{what}" for part, where, what in rows]
        return "\n".join(lines)

    async def send_hello(self) -> None:
        """A first mail, by SMTP, the long way: SMTP to gateway to router to gateway to SMTP. Raises StartupError."""
        message = EmailMessage()
        message["From"], message["To"] = "Ann <ann@example.net>", "bob@example.com"
        message["Subject"], message["Date"] = "Hello from koukan dev", email.utils.localtime()
        message["Message-ID"] = email.utils.make_msgid(domain="example.net")
        message.set_content("This mail went SMTP -> gateway -> router -> gateway -> SMTP.\n")
        pool = ConnectionPool()
        host = SmtpHostConfig(ehlo_host="client.example.net", timeout=30, tls=SmtpTlsConfig(mode="none"))
        upstream = SmtpUpstream(pool, host, HostPort("127.0.0.1", self.ports.mx))
        body = BytesBody(message.as_bytes().replace(b"\n", b"\r\n"))
        result = await upstream.step(Step(Mailbox("ann@example.net"), [Mailbox("bob@example.com")], body))
        await upstream.cancel()
        await pool.close()
        answers = [result.mail, *result.rcpt, result.data]
        failed = next((answer for answer in answers if answer is not None and answer.failed), None)
        if failed is not None:
            raise StartupError(f"the first mail was refused: {failed}")

    async def shown(self, count: int, timeout: float) -> None:
        """Wait until `count` mails have been shown. Raises StartupError."""
        try:
            async with asyncio.timeout(timeout):
                await self.timeline.wait_shown(count)
        except TimeoutError:
            raise StartupError(f"no mail arrived within {timeout:g} s; see the lines above") from None

    # --- what the processes say ------------------------------------------------------------------------------------------

    def _heard(self, name: str, event: dict[str, Any] | None, line: str) -> None:
        if event is None:
            self._show(f"{name}: {line}")
        elif "ready" in (event.get("event"), event.get("message")):
            self._ready.add(name)
        elif event.get("event") == "mail":
            self.timeline.arrived({**event, "program": name})
        elif event.get("message") == "transaction" and event.get("logger") == "koukan.router":
            self.timeline.attempted(event)
        elif event.get("level") in ("WARNING", "ERROR", "CRITICAL"):
            self._show(f"{name}: {event.get('level')} {event.get('message')}")
            if event.get("exception"):
                self._show(str(event["exception"]))
        self._changed.set()
