import asyncio
import re
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody, ConcatBody
from koukan.blob.spool import SpooledBody
from koukan.chain.filters.received_header import ReceivedHeaderFilter
from koukan.chain.outputs import HostStatus, RemoteHostOutput
from koukan.chain.transaction import Recipient, Transaction
from koukan.model import EsmtpParam, HostPort, Mailbox, Sender, SmtpMeta
from tests.support.chains import RecordingSink, make_chain, make_step, make_transaction

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
ANN = Mailbox("a@a.example")
SMTPUTF8 = (EsmtpParam("SMTPUTF8"),)


def transaction(
    *,
    client: str | None = "192.0.2.1",
    meta: SmtpMeta | None = None,
    confirmed: str | None = None,
    mail_from: Mailbox = ANN,
    rcpt_to: tuple[str, ...] = ("b@b.example",),
    tx_id: str = "7f-Q_x",
) -> Transaction:
    tx = Transaction(tx_id, Sender("test"), remote_host=HostPort(client, 25000) if client else None, smtp_meta=meta)
    tx.mail_from = mail_from
    tx.recipients = [Recipient(Mailbox(address), i) for i, address in enumerate(rcpt_to)]
    if confirmed is not None:
        tx.add_output(RemoteHostOutput(HostStatus.OK, fcrdns=True, remote_hostname=confirmed))
    return tx


def render(tx: Transaction, hostname: str | None = "mx.example.org") -> str:
    return ReceivedHeaderFilter(hostname, lambda: NOON).render(tx).decode()


def test_every_clause() -> None:
    meta = SmtpMeta("client.example", esmtp=True, tls=True, auth=True)
    assert render(transaction(meta=meta, confirmed="mail.client.example.")) == (
        "Received: from client.example (mail.client.example. [192.0.2.1])\r\n"
        "\tby mx.example.org\r\n"
        "\twith ESMTPSA\r\n"
        "\tid 7f-Q_x\r\n"
        "\tfor b@b.example;\r\n"
        "\tSat, 31 Jan 2026 12:00:00 +0000\r\n"
    )


def test_what_is_not_known_is_left_out() -> None:
    tx = transaction(client=None, rcpt_to=("b@b.example", "c@b.example"), tx_id="not (an id)")
    assert render(tx, None) == "Received: with X-RESTMTP;\r\n\tSat, 31 Jan 2026 12:00:00 +0000\r\n"


@pytest.mark.parametrize(
    ("meta", "params", "protocol"),
    [
        (None, (), "X-RESTMTP"),
        (SmtpMeta("c"), (), "SMTP"),
        (SmtpMeta("c", tls=True), (), "SMTP"),
        (SmtpMeta("c", esmtp=True), (), "ESMTP"),
        (SmtpMeta("c", esmtp=True, tls=True), (), "ESMTPS"),
        (SmtpMeta("c", esmtp=True, auth=True), (), "ESMTPA"),
        (SmtpMeta("c", esmtp=True), SMTPUTF8, "UTF8SMTP"),
        (SmtpMeta("c", esmtp=True, tls=True, auth=True), SMTPUTF8, "UTF8SMTPSA"),
        (
            SmtpMeta(
                "c", esmtp=True, tls=True, extra={"tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256"}
            ),
            (),
            "ESMTPS (TLSv1.3 TLS_AES_128_GCM_SHA256)",
        ),
        (SmtpMeta("c", esmtp=True, tls=True, extra={"tls_version": "x)\r\nX: y", "tls_cipher": 7}), (), "ESMTPS"),
    ],
)
def test_protocol(meta: SmtpMeta | None, params: tuple[EsmtpParam, ...], protocol: str) -> None:
    tx = transaction(meta=meta, mail_from=Mailbox("a@a.example", params))
    assert f"\twith {protocol}\r\n" in render(tx)


@pytest.mark.parametrize(
    ("client", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
    ],
)
def test_address_literal(client: str, literal: str) -> None:
    assert render(transaction(client=client)).startswith(f"Received: from {literal} ({literal})\r\n")


@pytest.mark.parametrize(
    ("ehlo", "params", "written"),
    [
        ("[192.0.2.1]", (), "[192.0.2.1]"),
        ("x (y) by forged", (), "x??y??by?forged"),
        ("x\r\nSubject: forged", (), "x??Subject:?forged"),
        ("bücher.example", (), "xn--bcher-kva.example"),
        ("bücher.example", SMTPUTF8, "bücher.example"),
        ("bü cher(", SMTPUTF8, "b??cher?"),
        ("é" * 300 + ".example", SMTPUTF8, "?" * 256),
        ("a" * 2000, (), "a" * 256),
    ],
)
def test_what_the_client_calls_itself(ehlo: str, params: tuple[EsmtpParam, ...], written: str) -> None:
    tx = transaction(meta=SmtpMeta(ehlo, esmtp=True), mail_from=Mailbox("", params))
    assert render(tx).splitlines()[0] == f"Received: from {written} ([192.0.2.1])"


@pytest.mark.parametrize(
    ("mailbox", "params", "written"),
    [
        ("b@bücher.example", (), "b@xn--bcher-kva.example"),
        ("jörg@b.example", (), None),
        ("jörg@bücher.example", SMTPUTF8, "jörg@bücher.example"),
        ('"a b"@b.example', (), '"a b"@b.example'),
        ("no address", (), None),
        ("a@b.example>;\r\nX: y", (), None),
        ("a" * 400 + "@b.example", (), None),
    ],
)
def test_recipient(mailbox: str, params: tuple[EsmtpParam, ...], written: str | None) -> None:
    rendered = render(transaction(rcpt_to=(mailbox,), mail_from=Mailbox("", params)))
    assert ("\tfor " in rendered) == (written is not None)
    assert written is None or f"\tfor {written};\r\n" in rendered


async def test_the_message_follows_by_reference() -> None:
    link = ReceivedHeaderFilter("mx.example.org", lambda: NOON)
    message = BytesBody(b"Subject: x\r\n\r\nbody\r\n")
    body = await link.on_body(transaction(), message)
    assert isinstance(body, ConcatBody)
    assert await body.read() == link.render(transaction()) + b"Subject: x\r\n\r\nbody\r\n"
    assert not link.needs_complete_body


async def test_the_message_may_still_be_on_its_way() -> None:
    sink = RecordingSink()
    chain = make_chain([{"filter": "received_header"}], sink)
    body = SpooledBody()
    body.append(b"Subject: x\r\n")
    sending = asyncio.create_task(chain.open(make_transaction()).step(make_step("a@a.example", ["b@b.example"], body)))
    await asyncio.sleep(0)
    assert not sending.done()
    body.append(b"\r\n")
    body.finish()
    await sending
    assert sink.bodies[0].startswith(b"Received: from client.example ([192.0.2.1])\r\n")
    assert sink.bodies[0].endswith(b"\r\nSubject: x\r\n\r\n")


@given(ehlo=st.text(max_size=400), name=st.text(max_size=400), rcpt=st.text(max_size=400), utf8=st.booleans())
def test_whatever_clients_say_it_stays_one_field(ehlo: str, name: str, rcpt: str, utf8: bool) -> None:
    mail_from = Mailbox("a@a.example", SMTPUTF8 if utf8 else ())
    meta = SmtpMeta(ehlo, esmtp=True)
    tx = transaction(client="2001:db8::1", meta=meta, confirmed=name, mail_from=mail_from, rcpt_to=(rcpt,))
    rendered = ReceivedHeaderFilter("mx.example.org", lambda: NOON).render(tx)
    assert message_from_bytes(rendered + b"\r\n", policy=policy.SMTP).keys() == ["Received"]
    unquoted = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", rendered)
    assert unquoted.count(b"(") == unquoted.count(b")") == 1
    assert max(map(len, rendered.split(b"\r\n"))) <= 998
    assert utf8 or rendered.isascii()
