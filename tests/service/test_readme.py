"""What the README shows is what its commands print."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

from koukan.dev.files import Ports
from koukan.dev.stack import Stack
from tests.support.docs import ROOT, blocks
from tests.support.house import LOOPBACK
from tests.support.ports import free_offset

#: what differs every time: transactions, times of day, durations, ports
_VARIABLE = re.compile(r"[0-9a-f]+-[\w-]{22}|\d\d:\d\d:\d\d\.\d{3}|\d+\.\d{3} s|(?<=127\.0\.0\.1:)\d+")


def shown(command: str) -> tuple[list[str], list[str]]:
    """The arguments of a command in the README, and the lines that it shows below."""
    first, *lines = next(b for b in blocks("README.md", "console") if b.startswith(f"$ {command}")).splitlines()
    return shlex.split(first.removeprefix("$ ")), [line for line in lines if line != "…"]


def assert_printed(lines: list[str], output: str) -> None:
    """The lines are in the output, in this order."""
    printed = iter(_VARIABLE.sub("*", output).splitlines())
    for line in lines:
        assert any(_VARIABLE.sub("*", line) == candidate for candidate in printed), (line, output)


async def koukan(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "koukan.cli.main", *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


async def test_make_run(tmp_path: Path) -> None:
    command, lines = shown("make run")
    assert "\t$(BIN)/koukan dev\n" in (ROOT / "Makefile").read_text(encoding="utf-8") and command == ["make", "run"]
    output = await koukan("dev", "--once", f"--directory={tmp_path}", f"--port-offset={free_offset()}")
    assert_printed(lines, output.replace(str(tmp_path), ".dev"))


async def test_koukan_send(tmp_path: Path) -> None:
    (_, *arguments), lines = shown(".venv/bin/koukan send")
    stack = Stack(tmp_path, Ports().shifted(free_offset()), lambda line: None)
    await stack.start()
    try:
        url = f"http://{LOOPBACK}:{stack.ports.router}/senders/submission/transactions"
        output = await koukan(*arguments, "--url", url)
    finally:
        await stack.stop()
    # Whether the attempt is seen under way depends on who is faster.
    assert_printed([line for line in lines if "under way" not in line], output)
