"""The processes of a development stack: started, listened to, started again when they die, stopped."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koukan.dev.output import parse

#: seconds after which a process that died is started again: long enough to see what happens without it
RESTART_DELAY = 1.0
#: seconds that a process may take to stop before it is killed
STOP_TIMEOUT = 20.0
#: bytes of one line that a process prints
_LINE_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """A `koukan` command."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


class Processes:
    """Runs programs as children. `heard` gets every line they print: the program's name, the event or None, the line."""

    def __init__(self, heard: Callable[[str, dict[str, Any] | None, str], None]) -> None:
        self._heard = heard
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._failed: dict[str, int] = {}

    def start(self, program: Program) -> None:
        """Run a program until `stop`."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep_running(program)))

    def pid(self, name: str) -> int | None:
        """The process of that name; None while there is none."""
        process = self._running.get(name)
        return None if process is None else process.pid

    @property
    def unusable(self) -> str | None:
        """A program that cannot start at all: it said so with exit code 2."""
        return next((name for name, code in self._failed.items() if code == 2), None)

    async def stop(self) -> None:
        """Stop all of them: SIGTERM, and SIGKILL for what does not listen."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for process in self._running.values():
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(_ended(process) for process in self._running.values()))

    async def _keep_running(self, program: Program) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "koukan.cli.main",
                *program.arguments,
                env={**os.environ, "KOUKAN_LOG_FORMAT": "json", **program.environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                stdin=asyncio.subprocess.DEVNULL,
                limit=_LINE_LIMIT,
                start_new_session=True,  # Ctrl-C is ours to hand on
            )
            self._running[program.name] = process
            await self._listen(program.name, process)
            code = await process.wait()
            self._failed[program.name] = code
            self._heard(program.name, None, f"ended with exit code {code}")
            if code == 2:
                return
            await asyncio.sleep(RESTART_DELAY)

    async def _listen(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._heard(name, parse(line), line.decode("utf-8", "replace").rstrip())


async def _ended(process: asyncio.subprocess.Process) -> None:
    # What it still has to say must be read, or it never gets to its end.
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
