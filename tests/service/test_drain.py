"""SIGTERM under load: nobody is refused for good, everything accepted arrives, the process ends in time with exit code 0."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from koukan.dev.files import Ports
from koukan.dev.sink import MailSink
from koukan.dev.stack import Stack
from koukan.model import HostPort
from tests.support.house import LOOPBACK, eventually, free_port
from tests.support.smtp_dialogue import message, send

#: seconds in which a process ends whose messages take milliseconds: nothing but its last answers is waited for
PROMPT = 10.0


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    sink = MailSink()
    yield sink
    await sink.stop()


class Load:
    """SMTP clients that send one message after the other, by submission and from outside."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.accepted: set[str] = set()
        self.codes: set[int] = set()
        self.over = False

    async def run(self, worker: int) -> None:
        port = self._stack.ports.msa if worker % 2 else self._stack.ports.mx
        number = 0
        while not self.over:
            number += 1
            subject = f"w{worker}n{number}"
            try:
                replies = await send(HostPort(LOOPBACK, port), "ann@example.net", ["bob@example.com"], message(subject))
            except (OSError, AssertionError):  # it hung up, or greets with 421
                await asyncio.sleep(0.02)
                continue
            codes = {reply.code for reply in replies}
            self.codes |= codes
            if max(codes) == 250:
                self.accepted.add(subject)

    async def more(self) -> None:
        enough = len(self.accepted) + 100
        await eventually(lambda: len(self.accepted) > enough, 60)


async def test_sigterm_under_load(tmp_path: Path, sink: MailSink) -> None:
    lines: list[str] = []
    stack = Stack(tmp_path, Ports(*(free_port() for _ in range(7))), lines.append)
    await stack.start(without=["sink"])
    await sink.start(HostPort(LOOPBACK, stack.ports.sink))
    load = Load(stack)
    workers = [asyncio.ensure_future(load.run(worker)) for worker in range(10)]
    try:
        for name in ("router", "gateway", "router"):
            await load.more()
            lines.clear()
            pid = stack.processes.pid(name)
            assert pid is not None
            asked = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            await eventually(partial(lines.__contains__, f"{name}: ended with exit code 0"), 60)
            assert time.monotonic() - asked < PROMPT
        await load.more()
        load.over = True
        await asyncio.gather(*workers)
        # What a stopping router has kept is due again two seconds later.
        await eventually(lambda: load.accepted <= {mail.subject for mail in sink.received}, 60, every=0.5)
    finally:
        load.over = True
        await asyncio.gather(*workers)
        await stack.stop()
    assert max(load.codes) < 500, load.codes
    subjects = [mail.subject for mail in sink.received]
    assert load.accepted <= set(subjects)
