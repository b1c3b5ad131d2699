"""Mail through the whole house, in every direction, on both databases."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Progress, Submission
from tests.support.house import House, eventually
from tests.support.smtp_dialogue import Dialogue, message, send


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, database_url) as house:
        yield house


@pytest.fixture
async def submission(house: House) -> AsyncIterator[Submission]:
    clients = HttpClients()
    yield Submission(clients, f"{house.rest}/senders/submission/transactions")
    await clients.close()


async def final(submission: Submission, progress: Progress, timeout: float = 20) -> Progress:
    async for _ in submission.follow(progress, timeout):
        continue
    assert progress.final
    return progress


async def test_smtp_to_smtp(house: House) -> None:
    replies = await send(house.mx, "ann@example.net", ["bob@example.com"], message("direct"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    mail = house.sink.received[0]
    assert mail.mail_from == "ann@example.net" and mail.rcpt_to == ("bob@example.com",)
    received, rest = mail.content.split(b"\r\nFrom: ", 1)
    assert received.startswith(b"Received: from client.example ")
    assert b"From: " + rest == message("direct")


async def test_what_is_accepted_once_is_delivered_once(house: House) -> None:
    await asyncio.gather(*(send(house.mx, "ann@example.net", ["bob@example.com"], message(f"n{n}")) for n in range(50)))
    await house.arrived(50)
    assert sorted(mail.subject for mail in house.sink.received) == sorted(f"n{n}" for n in range(50))


async def test_a_mail_for_an_application_arrives_parsed(house: House) -> None:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = "Ann <ann@example.net>", "desk@app.example.com", "a picture"
    mail["Date"], mail["Message-ID"] = "Tue, 24 Nov 2026 12:00:00 +0000", "<1@example.net>"
    mail.set_content("see the picture\n")
    mail.add_attachment(b"\x89PNG" + bytes(range(256)) * 10, maintype="image", subtype="png", filename="cat.png")
    replies = await send(house.mx, "ann@example.net", ["desk@app.example.com"], mail.as_bytes())
    assert [reply.code for reply in replies] == [250, 250, 250]

    [received] = house.receiver.transactions.values()
    assert received.envelope["mail_from"] == {"m": "ann@example.net"}
    assert received.message is not None and received.body is not None
    assert received.message["text_body"] == [{"content_type": "text/plain", "content": {"inline": "see the picture\n"}}]
    [attachment] = received.message["file_attachments"]
    assert attachment["filename"] == "cat.png"
    assert received.blobs[attachment["content"]["create_id"]] == b"\x89PNG" + bytes(range(256)) * 10
    assert received.body.endswith(mail.as_bytes())


def spec(**parts: Any) -> dict[str, Any]:
    headers = [
        ["from", [{"address": "ann@example.net", "display_name": "Ann"}]],
        ["to", [{"address": "bob@example.com"}]],
        ["subject", "built"],
    ]
    return {"headers": headers, **parts}


async def test_a_built_message_with_everything_and_its_body_again_for_a_second_recipient(
    house: House, submission: Submission, tmp_path: Path
) -> None:
    picture, report = tmp_path / "logo.png", tmp_path / "report.pdf"
    picture.write_bytes(b"\x89PNG-picture")
    report.write_bytes(b"%PDF" + bytes(100_000))
    built = spec(
        text_body=[
            {"content_type": "text/plain", "content": {"inline": "hello\n"}},
            {"content_type": "text/html", "content": {"inline": '<img src="cid:logo">'}},
        ],
        related_attachments=[{"content_type": "image/png", "content_id": "logo", "content": {"create_id": "logo"}}],
        file_attachments=[
            {"content_type": "application/pdf", "filename": "report.pdf", "content": {"create_id": "report"}}
        ],
    )
    sent = Message(built, {"logo": picture, "report": report})
    first = await final(submission, await submission.submit("ann@example.net", "bob@example.com", sent))
    second = await final(submission, await submission.submit("ann@example.net", "carl@example.com", sent))
    assert first.answer is not None and first.answer.ok and second.answer is not None and second.answer.ok

    await house.arrived(2)
    for mail in house.sink.received:
        parsed = email.message_from_bytes(mail.content, policy=email.policy.default)
        assert parsed["subject"] == "built" and not parsed.defects
        leaves = [part for part in parsed.walk() if not part.is_multipart()]
        assert [leaf.get_content_type() for leaf in leaves] == [
            "text/plain",
            "text/html",
            "image/png",
            "application/pdf",
        ]
        assert leaves[2]["content-id"] == "<logo>" and leaves[2].get_content() == picture.read_bytes()
        assert leaves[3].get_filename() == "report.pdf" and leaves[3].get_content() == report.read_bytes()


async def test_a_whole_message_by_rest(house: House, submission: Submission, tmp_path: Path) -> None:
    eml = tmp_path / "whole.eml"
    eml.write_bytes(message("whole"))
    sent = Message(eml=eml)
    for rcpt in ("bob@example.com", "carl@example.com"):
        done = await final(submission, await submission.submit("ann@example.net", rcpt, sent))
        assert done.document.final_attempt_reason == "upstream response success"
    await house.arrived(2)
    assert all(mail.content.endswith(message("whole")) for mail in house.sink.received)


async def test_a_built_message_for_an_application_is_parsed_on_every_attempt(
    house: House, submission: Submission
) -> None:
    await house.receiver.stop()
    built = Message(spec(text_body=[{"content_type": "text/plain", "content": {"inline": "hi\n"}}]))
    progress = await submission.submit("ann@example.net", "desk@app.example.com", built)
    async for seen in submission.follow(progress, 10):
        if seen.answer is not None:
            break
    assert progress.answer is not None and progress.answer.temporary
    await house.receiver.start(house.receiver.address)
    await final(submission, progress)
    [received] = house.receiver.transactions.values()
    assert received.message is not None
    assert received.message["text_body"][0]["content"] == {"inline": "hi\n"}


async def test_an_unknown_recipient_is_bounced_with_one_valid_notification(
    house: House, submission: Submission, tmp_path: Path
) -> None:
    eml = tmp_path / "lost.eml"
    eml.write_bytes(message("lost"))
    progress = await submission.submit("ann@example.net", "unknown@example.com", Message(eml=eml))
    done = await final(submission, progress)
    assert done.answer is not None and done.answer.code == 550
    assert done.document.final_attempt_reason == "upstream rcpt_response permfail"

    await house.arrived(1)
    mail = house.sink.received[0]
    assert mail.mail_from == "" and mail.rcpt_to == ("ann@example.net",)
    report = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report" and report.get_param("report-type") == "delivery-status"
    assert report["auto-submitted"] == "auto-replied"
    status = list(report.iter_parts())[1]
    assert status.get_content_type() == "message/delivery-status"
    blocks = status.get_payload()
    assert isinstance(blocks, list) and len(blocks) == 2  # of the message, and of its one recipient
    assert blocks[1]["final-recipient"] == "rfc822; unknown@example.com"
    assert blocks[1]["action"] == "failed" and blocks[1]["status"] == "5.1.1"
    assert "550 5.1.1 no such user here" in str(blocks[1]["diagnostic-code"])
    await asyncio.sleep(1.2)  # one more look of the scheduler into the queue: there is no second one
    assert len(house.sink.received) == 1


async def test_the_null_sender_gets_no_bounce(house: House, submission: Submission, tmp_path: Path) -> None:
    eml = tmp_path / "x.eml"
    eml.write_bytes(message("x"))
    done = await final(submission, await submission.submit("", "unknown@example.com", Message(eml=eml)))
    assert done.answer is not None and done.answer.code == 550
    assert (await house.router.store.stats()).depth == 0


async def test_a_cancelled_transaction_is_not_delivered(house: House, submission: Submission) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{house.rest}/senders/submission/transactions"
        document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "bob@example.com"}]}
        async with http.post(url, json=document) as created:
            location = created.headers["location"]
        async with http.post(f"{location}/cancel") as cancelled:
            assert cancelled.status == 200
        async with http.put(f"{location}/body", data=message()) as refused:
            assert refused.status == 409
        async with http.get(location) as seen:
            found = await seen.json()
    assert found["cancelled"] is True and found["final_attempt_reason"] == "downstream cancelled"
    await eventually(lambda: not house.gateway.service.busy, 5)
    assert not house.sink.received


async def test_several_messages_over_one_connection(house: House) -> None:
    async with Dialogue.open(house.mx) as dialogue:
        for number in range(5):
            replies = await dialogue.envelope("ann@example.net", ["bob@example.com"])
            assert [reply.code for reply in replies] == [250, 250]
            assert (await dialogue.data(message(f"m{number}", ".\r\n..\r\n.x\r\n"))).code == 250
        assert (await dialogue.command("QUIT")).code == 221
    await house.arrived(5)
    assert all(mail.content.endswith(b"\r\n\r\n.\r\n..\r\n.x\r\n") for mail in house.sink.received)
