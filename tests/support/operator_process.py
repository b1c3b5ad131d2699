"""The operator as a process of its own, and ways to disturb what it talks to."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
import yaml

T = TypeVar("T")

#: seconds that a change may take to show, on a machine that is busy with other tests
PATIENCE = 20.0


async def eventually(look: Callable[[], Awaitable[T]], *, within: float = PATIENCE, pause: float = 0.05) -> T:
    """What `look` answers as soon as that is true. Raises AssertionError with its last answer."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = await look()
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within} s: last answer {found!r}")
        await asyncio.sleep(pause)


class OperatorProcess:
    """A running `koukan-operator run --dev`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, url: str) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        return _text(self._log)

    @property
    def resident(self) -> int:
        """Resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}") as response:
            return response.status, await response.text()

    async def metrics(self) -> dict[str, float]:
        """Samples by name with labels, as Prometheus reads them."""
        _, text = await self.get("/metrics")
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def api_calls(self) -> float:
        """Requests to the API server so far, watches aside."""
        samples = await self.metrics()
        return sum(value for name, value in samples.items() if name.startswith("koukan_operator_api_calls_total"))

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; answers its exit code."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


async def start(log: Path, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """The process alone."""
    command = [sys.executable, "-m", "koukan_operator.main", "run", "--dev", *arguments]
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, env={**os.environ, **environment}
        )


@asynccontextmanager
async def spawned(log: Path, *arguments: str, **environment: str) -> AsyncIterator[OperatorProcess]:
    """A process that answers probes; it is ended with the block."""
    process = await start(log, *arguments, **environment)
    try:

        async def address() -> str | None:
            found = re.search(r"probes and metrics on (http://\S+)", _text(log))
            assert process.returncode is None, _text(log)
            return found.group(1) if found else None

        yield OperatorProcess(process, log, await eventually(address))
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def operator(log: Path, *arguments: str, **environment: str) -> AsyncIterator[OperatorProcess]:
    """A process that has listed the cluster; it is ended with the block."""
    async with spawned(log, *arguments, **environment) as running:

        async def ready() -> bool:
            return (await running.get("/readyz"))[0] == 200

        await eventually(ready)
        yield running


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def kubeconfig(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """A copy of the current kubeconfig after `change` of its cluster and its user."""
    current = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    names = next(c["context"] for c in current["contexts"] if c["name"] == current["current-context"])
    cluster = next(c["cluster"] for c in current["clusters"] if c["name"] == names["cluster"])
    user = next(u["user"] for u in current["users"] if u["name"] == names["user"])
    change(cluster, user)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


class Line:
    """A TCP line from a port of loopback to the API server, which can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def mend(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections and drop those that there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            theirs, ours = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._copy(reader, ours), self._copy(theirs, writer))
        except OSError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()


def api_server_process(port: int) -> psutil.Process | None:
    """The API server's own process, where this machine runs it."""
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["name"] == "kube-apiserver" and str(port) in command:
            return process
    return None
