"""`koukan sink` and `koukan receiver`: the other ends of the mail flow, to try things with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from koukan.cli.process import run, serve
from koukan.dev.output import emit
from koukan.dev.receiver import ReceivedTransaction, Receiver
from koukan.dev.sink import MailSink, ReceivedMail
from koukan.lifecycle import Stopping
from koukan.model import HostPort


def register(commands: Any) -> None:
    """Add the commands to the parser."""
    sink = commands.add_parser(
        "sink",
        help="run a mail server that keeps what it gets",
        description="An SMTP server that takes everything and prints a JSON line for each mail. Recipients that begin with "
        "rcpttemp, rcptperm, unknown, datatemp or dataperm fail as their names say.",
    )
    receiver = commands.add_parser(
        "receiver",
        help="run a sample application that takes mail by REST",
        description="An HTTP server that takes transactions of a router, parsed mail included, and prints a JSON line each.",
    )
    for parser, port, action in ((sink, 3025, run_sink), (receiver, 8002, run_receiver)):
        parser.add_argument(
            "--listen",
            type=listen_address,
            default=f"127.0.0.1:{port}",
            metavar="HOST:PORT",
            help="default: %(default)s",
        )
        parser.add_argument("--directory", type=Path, metavar="DIR", help="keep what arrives in files")
        parser.set_defaults(run=action)


def listen_address(text: str) -> HostPort:
    """`host:port` of an option. Raises ArgumentTypeError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, got {text!r}")
    return HostPort(host.strip("[]") or "127.0.0.1", int(port))


def run_sink(options: argparse.Namespace) -> int:
    def arrived(mail: ReceivedMail) -> None:
        emit(
            "mail",
            mail_from=mail.mail_from,
            rcpt_to=list(mail.rcpt_to),
            subject=mail.subject,
            bytes=len(mail.content),
            transaction=mail.transaction,
            stored=_stored(options.directory, f"{mail.number:06}.eml"),
        )

    return run(serve(_Peer(MailSink(options.directory, arrived), options.listen)))


def run_receiver(options: argparse.Namespace) -> int:
    def arrived(received: ReceivedTransaction) -> None:
        mail = ReceivedMail(0, "", (), received.body or b"")
        emit(
            "mail",
            mail_from=received.envelope.get("mail_from", {}).get("m"),
            rcpt_to=[rcpt.get("m") for rcpt in received.envelope.get("rcpt_to", [])],
            subject=mail.subject,
            bytes=len(mail.content),
            blobs=len(received.blobs),
            transaction=mail.transaction,
            stored=_stored(options.directory, f"{received.id}.json"),
        )

    return run(serve(_Peer(Receiver(options.directory, arrived), options.listen)))


def _stored(directory: Path | None, name: str) -> str | None:
    return None if directory is None else str(directory / name)


class _Peer:
    """A sink or receiver as a program."""

    def __init__(self, server: MailSink | Receiver, address: HostPort) -> None:
        self.stopping = Stopping()
        self._server = server
        self._address = address

    async def start(self) -> None:
        await self._server.start(self._address)
        emit("ready", address=str(self._server.address))

    async def stop(self) -> None:
        await self._server.stop()
