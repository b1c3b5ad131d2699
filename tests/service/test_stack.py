"""The development stack as processes of their own: what a user sees, and what survives when they are killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from koukan.dev.files import Ports
from koukan.dev.sink import MailSink
from koukan.dev.stack import Stack
from koukan.model import HostPort
from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Submission
from tests.support.house import LOOPBACK, eventually, free_port
from tests.support.ports import free_offset
from tests.support.smtp_dialogue import message, send

#: bytes of a big message, and how much the memory of a process may grow with it
BIG = 20 * 1024 * 1024
GROWTH = 16 * 1024 * 1024


def free_ports() -> Ports:
    return Ports(*(free_port() for _ in range(7)))


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    sink = MailSink()
    yield sink
    await sink.stop()


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Everything but the sink, which is the test's own."""
    lines: list[str] = []
    stack = Stack(tmp_path, free_ports(), lines.append)
    await stack.start(without=["sink"])
    yield stack
    await stack.stop()


@pytest.fixture
async def clients() -> AsyncIterator[HttpClients]:
    clients = HttpClients()
    yield clients
    await clients.close()


def submission_to(stack: Stack, clients: HttpClients) -> Submission:
    return Submission(clients, f"http://{LOOPBACK}:{stack.ports.router}/senders/submission/transactions")


async def test_what_is_left_out_is_not_said_to_run(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "koukan.cli.main", "dev", "--once", f"--directory={tmp_path}"),
        *(f"--port-offset={free_offset()}", "--without=sink", "--without=receiver"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "starting router and gateway; everything" in output and "left out: sink, receiver" in output
    lines = [line for line in output.splitlines() if line.startswith("  ")]
    assert ["(left out)" in line for line in lines] == [False, False, False, False, True, True]


async def test_koukan_dev_brings_a_mail_through_and_shows_it(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "koukan.cli.main",
        "dev",
        "--once",
        f"--directory={tmp_path}",
        f"--port-offset={free_offset()}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert 'mail at the sink: <ann@example.net> -> <bob@example.com>  "Hello from koukan dev"' in output
    assert re.search(r"client's transaction: ok after [\d.]+ s: 250 2\.6\.0 Message accepted for delivery", output)
    [stored] = (tmp_path / "mail").glob("*.eml")
    assert b"Subject: Hello from koukan dev" in stored.read_bytes()


async def kill_router(stack: Stack) -> None:
    """kill -9; the stack starts it again."""
    pid = stack.processes.pid("router")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: stack.processes.pid("router") not in (None, pid), 30)


async def test_what_was_answered_250_survives_kill_9_of_the_router(stack: Stack, sink: MailSink) -> None:
    msa = HostPort(LOOPBACK, stack.ports.msa)
    for number in range(5):
        replies = await send(msa, "ann@example.net", ["bob@example.org"], message(f"kept{number}"))
        assert [reply.code for reply in replies] == [250, 250, 250]
    await kill_router(stack)
    await sink.start(HostPort(LOOPBACK, stack.ports.sink))
    await eventually(lambda: len(sink.received) >= 5, 60)
    assert sorted(mail.subject for mail in sink.received) == [f"kept{number}" for number in range(5)]


async def test_what_was_answered_201_survives_kill_9_of_the_router(
    stack: Stack, sink: MailSink, clients: HttpClients, tmp_path: Path
) -> None:
    submission = submission_to(stack, clients)
    eml = tmp_path / "one.eml"
    eml.write_bytes(message("one"))
    progress = await submission.submit("ann@example.net", "bob@example.org", Message(eml=eml))
    await kill_router(stack)
    await sink.start(HostPort(LOOPBACK, stack.ports.sink))
    await eventually(lambda: len(sink.received) >= 1, 60)
    async for _ in submission.follow(progress, 20):
        continue
    assert progress.document.final_attempt_reason == "upstream response success"
    assert sink.received[0].subject == "one"


def peak_memory(pid: int) -> int:
    """The largest resident set of a process so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def test_a_big_message_passes_unchanged_and_costs_little_memory_both_ways(
    stack: Stack, sink: MailSink, clients: HttpClients, tmp_path: Path
) -> None:
    await sink.start(HostPort(LOOPBACK, stack.ports.sink))
    mx = HostPort(LOOPBACK, stack.ports.mx)
    line = b"".join(bytes([65 + n % 26]) for n in range(76)) + b"\r\n"
    big = message("big") + line * (BIG // len(line))
    eml, small = tmp_path / "big.eml", tmp_path / "small.eml"
    eml.write_bytes(big)
    small.write_bytes(message("small"))
    # Everything that is loaded and allocated once is there after a first mail each way.
    for _ in range(3):
        await send(mx, "ann@example.net", ["bob@example.com"], message("small"))
        await final(submission_to(stack, clients), small)
    pids = {name: stack.processes.pid(name) for name in ("router", "gateway")}
    before = {name: peak_memory(pid) for name, pid in pids.items() if pid is not None}

    replies = await send(mx, "ann@example.net", ["bob@example.com"], big)
    assert [reply.code for reply in replies] == [250, 250, 250]
    await final(submission_to(stack, clients), eml)
    await eventually(lambda: len(sink.received) == 8, 30)
    growth = {name: peak_memory(pid) - before[name] for name, pid in pids.items() if pid is not None}
    wanted = hashlib.sha256(big).hexdigest()
    for mail in sink.received[-2:]:
        assert hashlib.sha256(mail.content[-len(big) :]).hexdigest() == wanted
    assert max(growth.values()) < GROWTH, growth


async def final(submission: Submission, eml: Path) -> None:
    progress = await submission.submit("ann@example.net", "carl@example.org", Message(eml=eml))
    async for _ in submission.follow(progress, 60):
        continue
    assert progress.document.final_attempt_reason == "upstream response success"
