"""`koukan send` against a running house: what arrives, what is shown, how it exits."""

from __future__ import annotations

import asyncio
import email
import email.policy
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, quick_end
from tests.support.smtp_dialogue import message


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url, quick_end, quick_end) as house:
        yield house


async def koukan_send(house: House, recipients: Sequence[str], *more: str) -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    url = f"{house.rest}/senders/submission/transactions"
    arguments = ["--url", url, "--from", "ann@example.net", *more]
    for recipient in recipients:
        arguments += ["--to", recipient]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "koukan.cli.main",
        "send",
        *arguments,
        cwd=house.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_whole_message_for_two(house: House) -> None:
    (house.directory / "whole.eml").write_bytes(message("whole"))
    code, output, errors = await koukan_send(house, ["bob@example.com", "carl@example.com"], "--eml", "whole.eml")
    assert (code, errors) == (0, "") and output.count("(upstream response success)") == 2
    assert sorted(mail.rcpt_to for mail in house.sink.received) == [("bob@example.com",), ("carl@example.com",)]
    assert all(mail.content.endswith(message("whole")) for mail in house.sink.received)


async def test_text_html_a_picture_and_files_for_two(house: House) -> None:
    (house.directory / "a.txt").write_text("first")
    (house.directory / "b.png").write_bytes(b"\x89PNG" * 1000)
    more = ["--subject", "Grüße", "--text", "hi", "--html", "<img src='cid:pic'>", "--inline", "pic=b.png"]
    recipients = ["bob@example.com", "carl@example.com"]
    code, _, errors = await koukan_send(house, recipients, *more, "--attach", "a.txt", "--attach", "b.png")
    assert (code, errors) == (0, "") and len(house.sink.received) == 2
    for received in house.sink.received:
        mail: Any = email.message_from_bytes(received.content, policy=email.policy.default)
        assert mail["subject"] == "Grüße" and mail["to"] == "bob@example.com, carl@example.com"
        parts = [part for part in mail.walk() if not part.is_multipart()]
        assert [part.get_content_type() for part in parts] == [
            "text/plain",
            "text/html",
            "image/png",
            "text/plain",
            "image/png",
        ]
        assert parts[2]["content-id"] == "<pic>" and parts[3].get_filename() == "a.txt"
        assert [part.get_payload(decode=True) for part in parts[2:]] == [b"\x89PNG" * 1000, b"first", b"\x89PNG" * 1000]


@pytest.mark.parametrize(
    ("recipients", "code", "text"),
    [
        (["bob@example.com", "unknown@example.com", "rcpttemp@example.com"], 1, "upstream rcpt_response permfail"),
        (["bob@example.com", "rcpttemp@example.com"], 75, "still being tried after 1 s"),
    ],
)
async def test_the_exit_code_is_the_worst_outcome(house: House, recipients: list[str], code: int, text: str) -> None:
    exited, output, errors = await koukan_send(house, recipients, "--text", "x", "--timeout", "1")
    assert (exited, errors) == (code, "") and text in output and "(upstream response success)" in output


async def test_a_recipient_that_the_router_refuses_does_not_hide_what_became_of_the_others(house: House) -> None:
    (house.directory / "whole.eml").write_bytes(message("whole"))
    code, output, errors = await koukan_send(house, ["bob@example.com", "carl\n@example.com"], "--eml", "whole.eml")
    assert code == 2 and errors.count("\n") == 1 and "answered 400" in errors and "rcpt_to[0].m" in errors
    assert "bob@example.com: " in output and "(upstream response success)" in output
