"""A topology that checks envelopes before it routes them and documents before they are built: mail on every way through it."""

from __future__ import annotations

import email
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from koukan.config.files import load_router
from koukan.rest.submission import Message
from tests.support.house import eventually
from tests.support.samples import SAMPLE, Topology, running_sample
from tests.support.smtp_dialogue import message, send

ZONE = """
1.0.0.127.in-addr.arpa  PTR   localhost.test.
localhost.test          A     127.0.0.1
example.net             MX    10 mx.example.net.
example.com             MX    10 mx.example.net.
rest-application.example.com MX 10 mx.example.net.
mx.example.net          A     192.0.2.1
trouble.example         MX    !servfail
"""
APP = "bob@rest-application.example.com"
#: as an application that knows nothing of mail writes one
SPEC: dict[str, Any] = {
    "headers": [
        ["from", [{"display_name": "Ann", "address": "ann@example.com"}]],
        ["to", [{"address": "bob@example.org"}]],
        ["subject", "Rechnung Nr. 7"],
    ],
    "text_body": [{"content_type": "text/plain", "content": {"inline": "Guten Tag,\nanbei die Rechnung.\n"}}],
}
#: PHP's mail() without a From of its own, and no Message-ID
PHP = b"To: bob@example.org\r\nSubject: Bestellung\r\nX-PHP-Originating-Script: 33:shop.php\r\n\r\nDanke!\r\n"


@pytest.fixture
async def topology(tmp_path: Path) -> AsyncIterator[Topology]:
    async with running_sample("checks.yaml", ZONE, tmp_path) as topology:
        yield topology


def test_it_starts_with_no_more_than_a_word_about_what_nobody_hears() -> None:
    loaded = load_router(str(SAMPLE / "checks.yaml"), {})
    assert loaded.warnings == loaded.typos == []


# --- submission ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rcpt", ["bob@example.org", "bob@nowhere.example"])
async def test_submission_to_everybody_else_goes_to_the_static_hosts(topology: Topology, rcpt: str) -> None:
    replies = await send(topology.msa, "ann@example.com", [rcpt], message("away"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    [mail] = topology.sink.received
    assert mail.rcpt_to == (rcpt,)
    assert email.message_from_bytes(mail.content).keys()[0] == "Received"


@pytest.mark.parametrize("rcpt", [APP, "bob+x@rest-application.example.com"])
async def test_submission_to_our_application_goes_round_the_short_circuit(topology: Topology, rcpt: str) -> None:
    replies = await send(topology.msa, "ann@example.com", [rcpt], message("inside"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    [received] = topology.receiver.transactions.values()
    assert received.message is not None
    assert received.envelope["smtp_meta"]["ehlo_host"] == "localhost"


async def test_submission_to_our_mailboxes_goes_round_to_the_sink(topology: Topology) -> None:
    replies = await send(topology.msa, "ann@example.com", ["bob@example.com"], message("inside"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    assert topology.sink.received[0].rcpt_to == ("bob@example.com",)


@pytest.mark.parametrize(
    ("sender", "rcpt"),
    [("a..b@example.com", "bob@example.org"), ("ann@example.com", "b..ob@example.org"), ("ann@example.com", "bob")],
)
async def test_invalid_addresses_are_refused_by_their_rules(topology: Topology, sender: str, rcpt: str) -> None:
    for listener in (topology.msa, topology.mx):
        replies = await send(listener, sender, [rcpt], message())
        assert (replies[0].code, replies[1].code) == (250, 550)
        assert "message rejected" in replies[1].message
    assert topology.sink.received == []


async def test_a_message_that_is_no_message_is_refused_at_the_end_of_data(topology: Topology) -> None:
    replies = await send(topology.msa, "ann@example.com", ["bob@example.org"], PHP)
    assert [reply.code for reply in replies] == [250, 250, 550]
    assert "validation" in replies[2].message


@pytest.mark.parametrize("rcpt", ["bob@example.org", "bob@example.com"])
async def test_a_document_is_not_judged_before_it_is_built(topology: Topology, rcpt: str) -> None:
    progress = await topology.submit("ann@example.com", rcpt, Message(spec=SPEC))
    assert progress.document.final_attempt_reason == "upstream response success", progress.answer
    await eventually(lambda: len(topology.sink.received) == 1)
    built = email.message_from_bytes(topology.sink.received[0].content)
    assert built["subject"] == "Rechnung Nr. 7" and built["Received"] is not None


async def test_a_message_over_rest_is_judged_as_one_over_smtp(topology: Topology, tmp_path: Path) -> None:
    (tmp_path / "good.eml").write_bytes(message("rest"))
    (tmp_path / "bad.eml").write_bytes(PHP)
    good = await topology.submit("ann@example.com", APP, Message(eml=tmp_path / "good.eml"))
    assert good.document.final_attempt_reason == "upstream response success"
    bad = await topology.submit("ann@example.com", APP, Message(eml=tmp_path / "bad.eml"))
    assert bad.answer is not None and bad.answer.code == 550


# --- ingress -------------------------------------------------------------------------------------------------------------


async def test_ingress_takes_two_recipients_each_on_its_way(topology: Topology) -> None:
    rcpts = ["amy@example.com", APP, "carl@example.com"]
    replies = await send(topology.mx, "ann@example.net", rcpts, message("mx"))
    assert [reply.code for reply in replies] == [250, 250, 250, 452, 250]
    assert [mail.rcpt_to for mail in topology.sink.received] == [("amy@example.com",)]
    assert len(topology.receiver.transactions) == 1


async def test_the_same_recipient_twice_is_one_copy(topology: Topology) -> None:
    for listener in (topology.mx, topology.msa):
        replies = await send(listener, "ann@example.net", ["amy@example.com", "amy@Example.COM"], message("twice"))
        assert [reply.code for reply in replies] == [250, 250, 250, 250]
    assert [mail.rcpt_to for mail in topology.sink.received] == [("amy@example.com",)] * 2


async def test_the_postmaster_needs_no_domain(topology: Topology) -> None:
    replies = await send(topology.mx, "ann@example.net", ["Postmaster"], message("help"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    assert topology.sink.received[0].rcpt_to == ("Postmaster",)


@pytest.mark.parametrize(
    ("sender", "rcpt", "code", "text"),
    [
        ("ann@nowhere.example", "amy@example.com", 550, "5.1.8 the domain of the sender does not exist"),
        ("ann@trouble.example", "amy@example.com", 450, "4.1.8 the domain of the sender cannot be found now"),
        ("", "amy@example.com", 250, ""),
        ("ann@example.net", "amy@elsewhere.example", 550, "5.1.1 mailbox does not exist"),
        ("ann@example.net", "eve@rest-application.example.com", 550, "5.1.1 mailbox does not exist"),
    ],
)
async def test_ingress_answers_the_envelope(topology: Topology, sender: str, rcpt: str, code: int, text: str) -> None:
    """The gateway asks for sender and recipient at once, so that the first recipient hears what is wrong with the sender."""
    replies = await send(topology.mx, sender, [rcpt], message("x"))
    assert [reply.code for reply in replies[:2]] == [250, code]
    assert replies[1].message.startswith(text)
