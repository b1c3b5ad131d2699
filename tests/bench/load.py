"""A load generator and a sink for SMTP that cost little beside what they measure: bare protocols, no parsing.

As a process of its own each: `python -m tests.bench.load sink PORT` and `… source HOST PORT SESSIONS MESSAGES SIZE`.
The source opens a connection per message, as smtp-source does, and prints its result as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

#: seconds for one message; what takes longer has failed
TIMEOUT = 60.0


class SinkProtocol(asyncio.Protocol):
    """Answers everything with success and counts final dots."""

    delivered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._in_data = False
        self._buffer = b""
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            continue

    def _step(self) -> bool:
        if self._in_data:
            end = self._buffer.find(b"\r\n.\r\n")
            if end < 0:
                # Only what may be the beginning of the end has to be kept.
                self._buffer = self._buffer[-4:]
                return False
            self._buffer = self._buffer[end + 5 :]
            self._in_data = False
            SinkProtocol.delivered += 1
            self._transport.write(b"250 2.0.0 ok\r\n")
            return True
        line, found, rest = self._buffer.partition(b"\n")
        if not found:
            return False
        self._buffer = rest
        self._answer(line[:4].upper())
        return True

    def _answer(self, verb: bytes) -> None:
        if verb == b"EHLO":
            self._transport.write(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
        elif verb == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go ahead\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        elif verb == b"STAT":
            self._transport.write(f"250 {SinkProtocol.delivered}\r\n".encode())
        else:
            self._transport.write(b"250 2.0.0 ok\r\n")


async def run_sink(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(SinkProtocol, "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


class SourceProtocol(asyncio.Protocol):
    """One message over a connection of its own."""

    def __init__(self, done: asyncio.Future[bool], message: bytes) -> None:
        self._done = done
        self._commands = [
            b"EHLO load.example\r\n",
            b"MAIL FROM:<ann@example.net>\r\n",
            b"RCPT TO:<bob@example.com>\r\n",
            b"DATA\r\n",
            message,
        ]
        self._next = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._reply(line)

    def _reply(self, line: bytes) -> None:
        if line[:1] not in b"23":
            self._finish(False)
        elif self._next < len(self._commands):
            self._transport.write(self._commands[self._next])
            self._next += 1
        else:
            self._finish(True)

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(False)

    def _finish(self, ok: bool) -> None:
        if not self._done.done():
            self._done.set_result(ok)
            self._transport.write(b"QUIT\r\n")
            self._transport.close()


async def run_source(host: str, port: int, sessions: int, messages: int, size: int) -> None:
    loop = asyncio.get_running_loop()
    head = b"From: <ann@example.net>\r\nTo: <bob@example.com>\r\nSubject: load\r\n"
    head += b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <load@example.net>\r\n\r\n"
    line = b"x" * 70 + b"\r\n"
    message = head + line * max(1, (size - len(head)) // len(line)) + b".\r\n"
    todo = iter(range(messages))
    latencies: list[float] = []
    failed = 0

    async def session() -> None:
        nonlocal failed
        for _ in todo:
            done: asyncio.Future[bool] = loop.create_future()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(TIMEOUT):
                    await loop.create_connection(lambda done=done: SourceProtocol(done, message), host, port)
                    failed += not await done
            except (OSError, TimeoutError):
                failed += 1
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(session() for _ in range(sessions)))
    seconds = time.perf_counter() - started
    latencies.sort()
    result = {
        "seconds": seconds,
        "failed": failed,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
    }
    print(json.dumps(result), flush=True)


def main(arguments: list[str]) -> None:
    if arguments[0] == "sink":
        uvloop.run(run_sink(int(arguments[1])))
    else:
        host, port, sessions, messages, size = arguments[1:]
        uvloop.run(run_source(host, int(port), int(sessions), int(messages), int(size)))


if __name__ == "__main__":
    main(sys.argv[1:])
