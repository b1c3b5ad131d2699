"""Programs that tests run: kubectl, helm and the like, with what they said when they fail."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

#: seconds in which a command must end, unless told otherwise
TIMEOUT = 120.0


class CommandFailed(AssertionError):
    """A command ended with another code than 0; the text has its output."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"{shlex.join(command)} ended with code {code}:\n{output}")
        self.output = output


def run(*command: str, stdin: str | None = None, timeout: float = TIMEOUT) -> str:
    """Run a command; answers its standard output. Raises CommandFailed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise CommandFailed(command, done.returncode, done.stderr + done.stdout)
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = TIMEOUT) -> str:
    """Run kubectl; answers its standard output."""
    return run("kubectl", *arguments, stdin=stdin, timeout=timeout)


def helm(*arguments: str, stdin: str | None = None, timeout: float = TIMEOUT) -> str:
    """Run helm, of the PATH or of KOUKAN_HELM; answers its standard output."""
    return run(os.environ.get("KOUKAN_HELM", "helm"), *arguments, stdin=stdin, timeout=timeout)


def get(*arguments: str) -> Any:
    """What `kubectl get` finds, as JSON."""
    return json.loads(kubectl("get", "--output=json", *arguments))


@asynccontextmanager
async def lines_of(*command: str) -> AsyncIterator[asyncio.StreamReader]:
    """A command that goes on, such as a port-forward or a log that is followed; it is ended with the block."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, limit=2**20)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def port_forward(namespace: str, target: str, port: int) -> AsyncIterator[int]:
    """A port of loopback that leads to a port of a Service or pod."""
    async with lines_of("kubectl", "--namespace", namespace, "port-forward", target, f":{port}") as lines:
        async with asyncio.timeout(20):
            line = (await lines.readline()).decode()
        # Forwarding from 127.0.0.1:40001 -> 587
        yield int(line.split(" -> ")[0].rpartition(":")[2])
