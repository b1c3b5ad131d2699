from collections.abc import Sequence

import pytest

from koukan.blob.bodies import BytesBody, ConcatBody
from koukan.chain.filters.authentication_results import AuthenticationResultsFilter
from koukan.chain.outputs import (
    DkimCheckOutput,
    DkimResult,
    DkimStatus,
    HostStatus,
    RemoteHostOutput,
    SpfCheckOutput,
    SpfStatus,
)
from koukan.chain.transaction import FilterOutput, Transaction
from koukan.errors import ConfigError
from koukan.model import EsmtpParam, HostPort, Mailbox, Response, SmtpMeta
from tests.support.chains import RecordingSink, make_chain, make_step, make_transaction

MESSAGE = b"From: ann@a.example\r\n\r\nHello\r\n"
FORGED = b"Authentication-Results: mx.example.org; dkim=pass\r\n"


def transaction(*outputs: FilterOutput, client: str = "192.0.2.1", mail_from: Mailbox | None = None) -> Transaction:
    tx = make_transaction(client)
    tx.mail_from = mail_from or Mailbox("ann@a.example")
    for output in outputs:
        tx.add_output(output)
    return tx


async def header(tx: Transaction) -> list[str]:
    """The lines of the field that the filter adds."""
    body = await AuthenticationResultsFilter("mx.example.org").on_body(tx, BytesBody(MESSAGE))
    data = await body.read()
    assert data.endswith(MESSAGE)
    return data.decode().removesuffix(MESSAGE.decode()).split("\r\n")[:-1]


async def test_nothing_was_checked() -> None:
    assert await header(transaction()) == ["Authentication-Results: mx.example.org; none"]


async def test_everything_was_checked() -> None:
    dkim = DkimCheckOutput(
        (
            DkimResult(DkimStatus.PASS, domain="a.example", tags={"s": "s1", "a": "rsa-sha256"}),
            DkimResult(DkimStatus.FAIL, domain="b.example", reason="no key"),
        )
    )
    tx = transaction(
        RemoteHostOutput(HostStatus.OK, fcrdns=True, remote_hostname="mail.a.example."),
        SpfCheckOutput(SpfStatus.SOFTFAIL, domain="a.example"),
        dkim,
    )
    tx.smtp_meta = SmtpMeta("c", esmtp=True, auth=True)
    assert await header(tx) == [
        "Authentication-Results: mx.example.org;",
        "\tiprev=pass policy.iprev=192.0.2.1;",
        "\tauth=pass;",
        "\tspf=softfail smtp.mailfrom=a.example;",
        "\tdkim=pass header.d=a.example header.s=s1 header.a=rsa-sha256;",
        '\tdkim=fail reason="no key" header.d=b.example',
    ]


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        (RemoteHostOutput(HostStatus.OK), ["\tiprev=fail policy.iprev=192.0.2.1"]),
        (RemoteHostOutput(HostStatus.NOT_FOUND), ["\tiprev=permerror policy.iprev=192.0.2.1"]),
        (RemoteHostOutput(HostStatus.DNS_TEMP), ["\tiprev=temperror policy.iprev=192.0.2.1"]),
        (DkimCheckOutput(), ["\tdkim=none"]),
        (DkimCheckOutput((DkimResult(DkimStatus.TEMP_ERR),)), ["\tdkim=temperror"]),
        (DkimCheckOutput((DkimResult(DkimStatus.UNKNOWN_ALGO),)), ["\tdkim=neutral"]),
        (SpfCheckOutput(SpfStatus.NONE), ["\tspf=none"]),
    ],
)
async def test_results(output: FilterOutput, lines: Sequence[str]) -> None:
    assert await header(transaction(output)) == ["Authentication-Results: mx.example.org;", *lines]


async def test_the_null_sender_is_checked_by_its_greeting() -> None:
    tx = transaction(SpfCheckOutput(SpfStatus.PASS, domain="c.example"), mail_from=Mailbox(""))
    assert (await header(tx))[1:] == ["\tspf=pass smtp.helo=c.example"]


async def test_utf8_in_the_field_needs_smtputf8() -> None:
    output = SpfCheckOutput(SpfStatus.PASS, domain="bücher.example")
    with_utf8 = Mailbox("jörg@bücher.example", (EsmtpParam("SMTPUTF8"),))
    assert (await header(transaction(output, mail_from=with_utf8)))[-1] == "\tspf=pass smtp.mailfrom=bücher.example"
    assert (await header(transaction(output)))[-1] == "\tspf=pass smtp.mailfrom=xn--bcher-kva.example"


async def test_addresses_of_the_newer_kind_are_quoted() -> None:
    tx = transaction(RemoteHostOutput(HostStatus.OK))
    tx.remote_host = HostPort("2001:db8::1", 25)
    assert (await header(tx))[-1] == '\tiprev=fail policy.iprev="2001:db8::1"'


async def test_forged_fields_go_and_the_rest_stays_by_reference() -> None:
    content = b"x" * 100_000
    body = BytesBody(b"Subject: x\r\n" + FORGED + MESSAGE + content)
    cleaned = await AuthenticationResultsFilter("mx.example.org").on_body(transaction(), body)
    assert isinstance(cleaned, ConcatBody)
    expected = b"Authentication-Results: mx.example.org; none\r\nSubject: x\r\nFrom: ann@a.example\r\n\r\nHello\r\n"
    assert await cleaned.read() == expected + content
    assert cleaned.length == len(expected + content)
    assert cleaned.complete
    await cleaned.wait_complete()
    assert b"".join([chunk async for chunk in cleaned.chunks(60)]) == (expected + content)[60:]


@pytest.mark.parametrize("message", [b"", b"\r\n", b"\r\nAuthentication-Results: mx.example.org; x\r\n", b"Subject: x"])
async def test_odd_messages_pass(message: bytes) -> None:
    body = await AuthenticationResultsFilter("mx.example.org").on_body(transaction(), BytesBody(message))
    assert await body.read() == b"Authentication-Results: mx.example.org; none\r\n" + message


async def test_headers_beyond_the_bound_are_refused() -> None:
    chain = make_chain([{"filter": "authentication_results", "authserv_id": "mx"}], RecordingSink())
    step = make_step("a@b.example", ["c@d.example"], b"X: " + b"y" * 2_000_000)
    result = await chain.open(make_transaction()).step(step)
    assert result.data == Response(550, "5.6.0 header fields of more than 1048576 octets")


def test_a_name_that_is_none_is_an_error_at_the_start() -> None:
    """What only IDNA can tell; spaces and lengths are the configuration's to refuse."""
    with pytest.raises(ConfigError, match="authserv_id"):
        make_chain([{"filter": "authentication_results", "authserv_id": "\u3002"}], RecordingSink())
