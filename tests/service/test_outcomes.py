"""What becomes of mail that was kept: attempts that outlive their client, retries that run out, bounces and their bounces."""

from __future__ import annotations

import asyncio
import email
import email.policy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from koukan.dev.sink import MailSink
from tests.support.house import House, becomes, eventually
from tests.support.smtp_dialogue import message, send


class ThinkingSink(MailSink):
    """Answers the data of a message when it is told to, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.asked += 1
        failure = await self.answer
        return failure or await super().handle_DATA(server, session, envelope)


def two_attempts(document: dict[str, Any]) -> None:
    document["endpoint"][2]["output_handler"]["retry_params"]["max_attempts"] = 2


async def depth(house: House) -> int:
    return (await house.router.store.stats()).depth


async def has_depth(house: House, wanted: int) -> bool:
    return await depth(house) == wanted


async def empty(house: House) -> None:
    await becomes(partial(has_depth, house, 0))


def reports(house: House) -> list[Any]:
    """The bounces that have arrived."""
    parsed = [email.message_from_bytes(mail.content, policy=email.policy.default) for mail in house.sink.received]
    return [mail for mail in parsed if mail.get_content_type() == "multipart/report"]


@pytest.mark.parametrize("late", [None, "550 5.7.1 late refusal", "450 4.7.1 late doubt"])
async def test_an_attempt_goes_on_when_its_client_has_been_answered(
    late: str | None, tmp_path: Path, database_url: str
) -> None:
    house = House(tmp_path, database_url, two_attempts)
    house.sink = sink = ThinkingSink()
    async with house:
        replies = await send(house.msa, "ann@example.net", ["bob@example.com"], message("thinking"))
        assert [reply.code for reply in replies] == [250, 250, 250] and sink.asked == 1
        assert await depth(house) == 1
        sink.answer.set_result(late)
        if late is not None:
            # A bounce and a second attempt are taken, whatever became of the first.
            sink.answer = asyncio.get_running_loop().create_future()
            sink.answer.set_result(None)
        await empty(house)
        assert sink.asked == (1 if late is None else 2)
        assert [mail.subject == "thinking" for mail in sink.received] == [late is None or late.startswith("4")]
        assert len(reports(house)) == (late is not None and late.startswith("5"))


async def test_retries_that_run_out_make_one_bounce_that_names_the_next_hop(tmp_path: Path, database_url: str) -> None:
    async with House(tmp_path, database_url, two_attempts) as house:
        replies = await send(house.msa, "ann@example.net", ["datatemp@example.com"], message("hopeless"))
        assert replies[-1].code == 250
        await house.arrived(1)
        await empty(house)
        [report] = reports(house)
        status = list(report.iter_parts())[1].get_payload()[1]
        assert status["remote-mta"] == "dns; [127.0.0.1]" and status["status"] == "4.2.0"
        assert "data temp" in status["diagnostic-code"]
        assert [mail.rcpt_to for mail in house.sink.received] == [("ann@example.net",)]


async def test_a_bounce_that_is_refused_is_the_end(tmp_path: Path, database_url: str) -> None:
    async with House(tmp_path, database_url) as house:
        replies = await send(
            house.msa, "unknown@example.net", ["bob@example.com", "dataperm@example.com"], message("x")
        )
        assert replies[-1].code == 250
        await house.arrived(1)
        await empty(house)
        assert [mail.subject for mail in house.sink.received] == ["x"]


async def test_a_bounce_that_is_not_taken_now_is_tried_again(tmp_path: Path, database_url: str) -> None:
    async with House(tmp_path, database_url) as house:
        house.sink.fail("ann", "450 4.2.1 not now")
        await send(house.msa, "ann@example.net", ["bob@example.com", "dataperm@example.com"], message("x"))
        await house.arrived(1)
        await becomes(partial(has_depth, house, 1))
        assert not reports(house)
        house.sink.take("ann")
        await eventually(lambda: len(reports(house)) == 1, 20)
        await empty(house)
