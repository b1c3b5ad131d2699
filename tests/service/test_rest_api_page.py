"""The examples of docs/rest-api.md, run by a shell against a whole house."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from koukan.chain import outputs
from koukan.chain.transaction import FilterOutput
from koukan.router import outcome
from tests.support.docs import ROOT, blocks, examples
from tests.support.house import House
from tests.support.smtp_dialogue import message

PAGE = "docs/rest-api.md"
_ID = re.compile(r"[0-9a-f]+-[\w-]{22}|\d{8}T\d{12}-[0-9a-f]{16}")
_END = "\x1e"


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url) as house:
        yield house


@pytest.fixture(params=["curl", "stand-in"] if shutil.which("curl") else ["stand-in"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that has curl: the machine's, or one of ours."""
    if request.param == "curl":
        return dict(os.environ)
    command = tmp_path / "bin" / "curl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/support/curl.py "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}


async def run(scripts: list[str], house: House, environment: dict[str, str]) -> list[str]:
    """What each of the scripts printed, run one after the other in the same shell."""
    places = {"127.0.0.1:8000": f"127.0.0.1:{house.router_port}", "127.0.0.1:8002": f"127.0.0.1:{house.receiver_port}"}
    text = "".join(f"{script}\nprintf '{_END}'\n" for script in scripts)
    for shown, real in places.items():
        text = text.replace(shown, real)
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", text, cwd=house.directory, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0
    printed = output.decode()
    for shown, real in places.items():
        printed = printed.replace(real, shown)
    return printed.split(_END)[:-1]


def comparable(text: str) -> Any:
    """A JSON answer without what differs every time."""
    return json.loads(_ID.sub("ID", text))


def assert_contains(seen: Any, shown: Any) -> None:
    """What the page shows is in the answer; the page leaves out what it is not about."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            assert key in seen, seen
            assert_contains(seen[key], value)
    elif isinstance(shown, list):
        assert len(seen) == len(shown)
        for one, other in zip(seen, shown, strict=True):
            assert_contains(one, other)
    else:
        assert seen == shown


async def test_every_example_works_and_answers_what_the_page_shows(house: House, shell: dict[str, str]) -> None:
    (house.directory / "logo.png").write_bytes(b"\x89PNG")
    (house.directory / "report.pdf").write_bytes(b"%PDF" + bytes(100_000))
    (house.directory / "message.eml").write_bytes(message("whole"))
    pairs = examples(PAGE)
    printed = await run([script for script, _ in pairs], house, shell)
    for (_, shown), seen in zip(pairs, printed, strict=True):
        last = seen.strip().removeprefix("{}")  # uploads without `prefer` answer {}
        if shown is not None:
            assert_contains(comparable(last or "{}"), comparable(shown))
    await house.arrived(5)  # the four that the page sends, and a bounce

    mails = {
        str(parsed["subject"]): parsed
        for mail in house.sink.received
        if (parsed := email.message_from_bytes(mail.content, policy=email.policy.default))
    }
    assert mails["Hello"].get_content() == "Hello Bob!\n"
    assert mails["Hello"]["date"] and mails["Hello"]["message-id"]
    assert [part.get_filename() for part in mails["Report"].iter_attachments()] == ["report.pdf"]
    to_whole = sorted(mail.rcpt_to for mail in house.sink.received if mail.subject == "whole")
    assert to_whole == [("bob@example.net",), ("carl@example.net",)]
    [received] = house.receiver.transactions.values()
    assert received.message is not None and received.body == message("whole")


PROGRAMS = {"python": [sys.executable, "-c"]} | ({"js": ["node", "-e"]} if shutil.which("node") else {})


@pytest.mark.parametrize("language", PROGRAMS)
async def test_the_programs_of_the_page_send(house: House, language: str) -> None:
    [program] = blocks(PAGE, language)
    program = program.replace("127.0.0.1:8000", f"127.0.0.1:{house.router_port}")
    process = await asyncio.create_subprocess_exec(*PROGRAMS[language], program, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(output)["final_attempt_reason"] == "upstream response success"
    [mail] = house.sink.received
    parsed = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert str(parsed["subject"]).lower().startswith(language[0])
    assert [part.get_filename() for part in parsed.iter_attachments()] == (
        ["report.pdf"] if language == "python" else []
    )


def test_the_page_names_every_reason_and_every_output() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    reasons = {value for name, value in vars(outcome).items() if name.isupper() and isinstance(value, str)}
    reasons |= {f"upstream {command}response permfail" for command in ("mail_", "rcpt_", "")}
    assert len(reasons) == 10
    for word in reasons | {kind.key for kind in FilterOutput.__subclasses__() if kind.__module__ == outputs.__name__}:
        assert f"`{word}`" in page, word


def test_the_page_has_examples() -> None:
    assert len(examples(PAGE)) >= 8
