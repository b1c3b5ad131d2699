"""What goes on the envelope of a bounce, and when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.config.router import GlobalConfig
from koukan.message.validation import Level, validate
from koukan.model import Body, EsmtpParam, Mailbox, Response, Sender
from koukan.router.notification import Notifier, wants_failures
from koukan.router.roles import Role, Roles
from koukan.storage.store import Envelope, NewTransaction
from tests.support.chains import RecordingSink, make_chain, make_context, make_transaction

MESSAGE = b"From: ann@a.example\r\nSubject: hello\r\n\r\nHello\r\n"
SMTPUTF8 = EsmtpParam("SMTPUTF8")


def role(**handler: Any) -> Role:
    config = make_context(
        sender=[{"name": "test", "output_chain": "test"}],
        endpoint=[{"name": "test", "chain": [{"filter": "rest_output"}]}],
    ).config
    chain = make_chain([], RecordingSink())
    chain.config = chain.config.model_copy(
        update={"output_handler": chain.config.output_handler.model_validate(handler)}
    )
    found = Roles(config, {"test": chain}).find("test", None)
    assert found is not None
    return found


NOTIFYING = role(notification={"sender": "bounces", "tag": "dsn"})


async def bounce(sender: Mailbox | None, role: Role = NOTIFYING, original: bytes = MESSAGE) -> NewTransaction | None:
    notifier = Notifier(GlobalConfig(mailer_daemon_mailbox="mailer-daemon@example.org"), lambda: "dsn1")
    envelope = Envelope(Sender("test"), sender, (Mailbox("bob@b.example"),))
    failure = Response(550, "5.1.1 no such user")
    return await notifier.bounce(role, envelope, failure, BytesBody(original), make_transaction(), 60.0)


async def test_a_bounce_goes_to_the_sender_through_the_chain_for_bounces() -> None:
    made = await bounce(Mailbox("ann@a.example", (EsmtpParam("SIZE", "10"),)))
    assert made is not None
    assert made.id == "dsn1"
    assert made.envelope.sender == Sender("bounces", "dsn")
    assert made.envelope.mail_from == Mailbox("")
    assert made.envelope.rcpt_to == (Mailbox("ann@a.example"),)
    assert made.retry
    assert made.destination == "a.example"
    assert isinstance(made.body, Body)
    assert b"Final-Recipient: rfc822; bob@b.example\r\n" in await made.body.read()


@pytest.mark.parametrize(
    ("sender", "original", "params"),
    [
        (Mailbox("ann@a.example"), "Subject: grüße\r\n\r\n", ()),
        (Mailbox("ann@a.example", (SMTPUTF8,)), "Subject: grüße\r\n\r\n", (EsmtpParam("BODY", "8BITMIME"),)),
        (Mailbox("jörg@a.example", (SMTPUTF8,)), "Subject: x\r\n\r\n", (EsmtpParam("BODY", "8BITMIME"), SMTPUTF8)),
    ],
)
async def test_the_envelope_says_what_the_bounce_needs(
    sender: Mailbox, original: str, params: tuple[EsmtpParam, ...]
) -> None:
    """And with it the bounce passes the validation that chains apply."""
    made = await bounce(sender, original=original.encode())
    assert made is not None
    assert made.envelope.mail_from == Mailbox("", params)
    assert isinstance(made.body, Body)
    assert (await validate(made.body, smtputf8=SMTPUTF8 in params)).level is Level.HIGH


@pytest.mark.parametrize("sender", [None, Mailbox("")])
async def test_nobody_is_told_where_nobody_sent(sender: Mailbox | None) -> None:
    assert await bounce(sender) is None


async def test_a_chain_without_notification_sends_none(caplog: pytest.LogCaptureFixture) -> None:
    assert await bounce(Mailbox("ann@a.example"), role()) is None
    assert "has no notification" in caplog.text


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        (None, True),
        ("", True),
        ("FAILURE", True),
        ("SUCCESS,FAILURE", True),
        ("delay, failure", True),
        ("nonsense", True),
        ("NEVER", False),
        ("never", False),
        ("SUCCESS", False),
        ("SUCCESS,DELAY", False),
    ],
)
def test_notify_says_what_a_sender_wants_to_hear_of(notify: str | None, wanted: bool) -> None:
    assert wants_failures(Mailbox("bob@b.example", (EsmtpParam("Notify", notify),))) is wanted


def test_without_notify_failures_are_reported() -> None:
    assert wants_failures(Mailbox("bob@b.example", (EsmtpParam("ORCPT", "rfc822;bob@b.example"),)))
