"""A chain that hands on to a sender with retries of its own, as the quickstart does: one of the two retries and bounces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, eventually, quick_end
from tests.support.smtp_dialogue import message, send
from tests.support.wire import Peer, body_uri

ENVELOPE = {"mail_from": {"m": "ann@example.net"}}


def handing_on(document: dict[str, Any]) -> None:
    """Sender `newsletter`, and SMTP, go to the sender `submission` of the same router, which has retries and bounces too."""
    quick_end(document)
    document["sender"] += [
        {"name": "newsletter", "output_chain": "newsletter", "retry": "output_chain", "notification": "output_chain"},
    ]
    document["sender"][0]["tag"][1]["output_chain"] = "newsletter"
    document["rest_endpoint"].append(
        {
            "name": "submission",
            "endpoint": f"{document['rest_listener']['session_uri']}/senders/submission/transactions",
            "sender": "submission",
        }
    )
    document["endpoint"].append(
        {
            "name": "newsletter",
            "output_handler": {
                "retry_params": {"min_attempt_time": 1, "max_attempt_time": 1, "max_attempts": 20, "jitter": 0},
                "notification": {"sender": "submission", "tag": "notification"},
            },
            "chain": [
                {"filter": "message_builder"},
                {"filter": "received_header", "received_hostname": "newsletter.example.com"},
                {"filter": "router", "destination": {"endpoint": "submission"}},
                {"filter": "rest_output"},
            ],
        }
    )


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url, handing_on) as house:
        yield house


@pytest.fixture
def peer(house: House) -> Peer:
    return Peer(house.rest)


async def submit(peer: Peer, recipient: str, **form: Any) -> tuple[str, Any]:
    return await peer.create("newsletter", {**ENVELOPE, "rcpt_to": [{"m": recipient}], **form})


async def nothing_queued(house: House) -> None:
    """Nothing is left to do, so that nothing more can arrive."""
    await eventually(lambda: not house.router.dispatcher.busy and not house.gateway.service.busy, 30)
    assert (await house.router.store.stats()).depth == 0


async def test_an_outage_makes_one_copy(house: House, peer: Peer) -> None:
    await house.sink.stop()
    location, _ = await submit(peer, "bob@example.com", body={"inline": "Subject: outage\r\n\r\nhello\r\n"})
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["data_response"]["code"] == 250
    await house.start_sink()
    await house.arrived(1)
    await nothing_queued(house)
    assert [mail.subject for mail in house.sink.received] == ["outage"]


async def test_a_body_that_comes_later_makes_one_copy(house: House, peer: Peer) -> None:
    await house.sink.stop()
    location, created = await submit(peer, "bob@example.com")
    await peer.put(body_uri(created), b"Subject: later\r\n\r\nhello\r\n")
    await peer.until(location, "final_attempt_reason")
    await house.start_sink()
    await house.arrived(1)
    await nothing_queued(house)
    assert [mail.subject for mail in house.sink.received] == ["later"]


@pytest.mark.parametrize("recipient", ["dataperm@example.com", "rcptperm@example.com"])
async def test_a_refusal_makes_one_bounce(house: House, peer: Peer, recipient: str) -> None:
    location, _ = await submit(peer, recipient, body={"inline": "Subject: refused\r\n\r\nhello\r\n"})
    await peer.until(location, "final_attempt_reason")
    await house.arrived(1)
    await nothing_queued(house)
    [bounce] = house.sink.received
    assert not bounce.mail_from and bounce.rcpt_to == ("ann@example.net",)


async def test_smtp_through_it_is_delivered_once(house: House) -> None:
    await house.sink.stop()
    replies = await send(house.mx, "ann@example.net", ["bob@example.com"], message("by smtp"))
    assert [reply.code for reply in replies][-1] == 250
    await house.start_sink()
    await house.arrived(1)
    await nothing_queued(house)
    assert [mail.subject for mail in house.sink.received] == ["by smtp"]
