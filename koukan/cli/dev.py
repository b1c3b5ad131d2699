"""`koukan dev`: the whole house on loopback, and a mail that goes through it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from koukan.cli.process import run, serve
from koukan.dev.files import Ports
from koukan.dev.stack import PARTS, Stack

#: seconds for the first mail to arrive
_FIRST_MAIL = 30.0


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "dev",
        help="run everything on loopback and watch mail go through",
        description="Router, gateway, mail sink and sample receiver as processes on loopback, with SQLite. A first mail is "
        "sent by SMTP and shown, then every mail as it arrives. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".dev"),
        metavar="DIR",
        help="where everything is kept; default: %(default)s",
    )
    parser.add_argument("--port-offset", type=int, default=0, metavar="N", help="add N to every port")
    parser.add_argument(
        "--without",
        action="append",
        choices=PARTS,
        default=[],
        help="leave a part out, to start it by hand (repeatable)",
    )
    parser.add_argument("--once", action="store_true", help="end when the first mail has arrived")
    parser.set_defaults(run=run_dev)


def run_dev(options: argparse.Namespace) -> int:
    return run(_dev(options))


async def _dev(options: argparse.Namespace) -> int:
    app = _DevApp(options)
    return await serve(app, app.first_mail)


class _DevApp:
    """The stack as a program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._stack = Stack(options.directory, Ports().shifted(options.port_offset), show)
        self.stopping = self._stack.stopping

    async def start(self) -> None:
        parts = [part for part in ("router", "gateway", "sink", "receiver") if part not in self._options.without]
        show(f"starting {_and(parts) or 'nothing'}; everything is kept in {self._stack.directory}")
        await self._stack.start(self._options.without)
        show(self._stack.describe(self._options.without))

    async def first_mail(self) -> None:
        if self._options.without:
            show(f"\nleft out: {', '.join(self._options.without)}; mail waits for it, or is refused for now")
        else:
            await self._stack.send_hello()
            await self._stack.shown(1, _FIRST_MAIL)
        if self._options.once:
            self.stopping.set()
        else:
            show(_NEXT.format(koukan=_program(), mx=self._stack.ports.mx, rest=self._stack.ports.router))

    async def stop(self) -> None:
        await self._stack.stop()


_NEXT = """
Now send some yourself, from another terminal (Ctrl-C here ends everything):
  {koukan} send --url http://127.0.0.1:{rest}/senders/submission/transactions --from ann@example.com \\
    --to bob@example.net --subject Hi --text Hello --attach README.md
  the same --to unknown@example.net bounces; --to bob@rest-application.example.com is parsed for the sample receiver
  swaks --server 127.0.0.1:{mx} --from ann@example.net --to bob@rest-application.example.com
"""


def _and(words: list[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _program() -> str:
    """How this command was called, so that what we print can be typed."""
    return sys.argv[0] if Path(sys.argv[0]).name == "koukan" else "koukan"


def show(line: str) -> None:
    print(line, flush=True)
