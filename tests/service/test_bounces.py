"""Bounces and retries as users of other mail servers have missed them: who is told, once, of what, and that it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from koukan.dev.sink import MailSink
from tests.support.house import House, becomes, quick_end
from tests.support.smtp_dialogue import message, send
from tests.support.wire import Peer

UNAUTHENTICATED = (
    "550-5.7.26 Unauthenticated email from example.net is not accepted due to\r\n"
    "550-5.7.26 domain's DMARC policy. Please contact the administrator of\r\n"
    "550 5.7.26 example.net domain. i7si731267wml.114 - gsmtp"
)


class Gmail(MailSink):
    """Refuses messages for `dmarc…` as Gmail does, in several lines."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if envelope.rcpt_tos[0].startswith("dmarc"):
            return UNAUTHENTICATED
        return await super().handle_DATA(server, session, envelope)


def two_attempts(document: dict[str, Any]) -> None:
    quick_end(document)
    document["endpoint"][2]["output_handler"]["retry_params"]["max_attempts"] = 2


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    house = House(tmp_path, sqlite_url, two_attempts, quick_end)
    house.sink = Gmail()
    async with house:
        yield house


async def is_empty(house: House) -> bool:
    return (await house.router.store.stats()).depth == 0


async def reports(house: House) -> list[Any]:
    """All bounces that arrive, once the queue is empty."""
    await becomes(partial(is_empty, house))
    parsed = [(mail, message_from_bytes(mail.content, policy=default)) for mail in house.sink.received]
    found = [(mail, report) for mail, report in parsed if report.get_content_type() == "multipart/report"]
    assert all(mail.mail_from in ("", "<>", None) for mail, _ in found)
    return [report for _, report in found]


def about(report: Any) -> list[Any]:
    """The blocks of its recipients."""
    return list(list(report.iter_parts())[1].get_payload()[1:])


async def test_a_bounce_repeats_every_line_of_the_reply(house: House) -> None:
    await send(house.msa, "ann@example.net", ["bob@example.com", "dmarc@example.com"], message("several lines"))
    [report] = await reports(house)
    [block] = about(report)
    assert block["status"] == "5.7.26"
    for place in (block["diagnostic-code"], next(report.iter_parts()).get_content()):
        assert all(words in place for words in ("is not accepted", "the administrator of", "i7si731267wml"))


async def test_only_those_who_failed_are_bounced_and_nobody_else_hears_twice(house: House) -> None:
    rcpts = ["bob@example.com", "dataperm@example.com", "carl@example.com"]
    replies = await send(house.msa, "ann@example.net", rcpts, message("three"))
    assert replies[-1].code == 250
    [report] = await reports(house)
    assert [block["final-recipient"] for block in about(report)] == ["rfc822; dataperm@example.com"]
    delivered = sorted(mail.rcpt_to[0] for mail in house.sink.received if mail.subject == "three")
    assert delivered == ["bob@example.com", "carl@example.com"]


async def test_a_bounce_that_nobody_ever_takes_comes_to_an_end(house: House) -> None:
    house.sink.fail("ann", "450 4.2.2 over quota")
    await send(house.msa, "ann@example.net", ["bob@example.com", "dataperm@example.com"], message("x"))
    assert await reports(house) == []
    assert [mail.subject for mail in house.sink.received] == ["x"]


@pytest.mark.parametrize(("notify", "bounces"), [("NEVER", 0), ("SUCCESS,DELAY", 0), ("SUCCESS,FAILURE", 1)])
async def test_who_wants_no_bounce_gets_none(house: House, notify: str, bounces: int) -> None:
    peer = Peer(house.rest)
    rcpt = {"m": "unknown@example.com", "e": [{"k": "NOTIFY", "p": notify}]}
    document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [rcpt], "body": {"inline": message("x").decode()}}
    location, _ = await peer.create("submission", document)
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == "upstream rcpt_response permfail"
    assert len(await reports(house)) == bounces


@pytest.mark.parametrize(
    "header", [b"Auto-Submitted: auto-generated", b"Precedence: bulk", b"List-Id: <l.example.net>"]
)
async def test_mail_of_programs_and_lists_is_bounced_to_its_return_path(house: House, header: bytes) -> None:
    """RFC 3834 §1 is about answers, not about reports of delivery."""
    sender = "list-bounces+dmarc=example.com@example.net"
    await send(house.msa, sender, ["bob@example.com", "dataperm@example.com"], header + b"\r\n" + message("x"))
    [report] = await reports(house)
    assert str(report["to"]) == sender and report["auto-submitted"] == "auto-replied"


async def test_a_sender_whose_address_is_against_the_grammar_finds_it_in_the_header(house: House) -> None:
    async with asyncio.timeout(30):
        replies = await send(
            house.msa, "taro..@docomo.example", ["bob@example.com", "dataperm@example.com"], message("x")
        )
    assert replies[-1].code == 250
    [report] = await reports(house)
    [to] = report["to"].addresses
    assert (to.username, to.domain) == ("taro..", "docomo.example")
