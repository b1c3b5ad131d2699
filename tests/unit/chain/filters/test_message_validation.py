import pytest

from koukan.chain.outputs import MessageValidationOutput
from koukan.message.address import Address
from koukan.message.validation import Level
from koukan.model import EsmtpParam, Mailbox, Response, Step
from tests.support.chains import RecordingSink, make_chain, make_step, make_transaction

MESSAGE = (
    "From: Ann <ann@example.com>\r\nDate: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <a@example.com>\r\n"
    "Subject: Grüße\r\nReceived: x\r\n\r\nbody\r\n"
).encode()


async def judge(step: Step) -> tuple[MessageValidationOutput | None, Response | None]:
    tx = make_transaction()
    chain = make_chain([{"filter": "message_validation"}], RecordingSink())
    result = await chain.open(tx).step(step)
    return tx.output(MessageValidationOutput), result.data


async def test_the_verdict_is_an_output_and_no_answer() -> None:
    output, answer = await judge(make_step("a@a.example", ["b@b.example"], b"no message"))
    assert answer == Response(250, "ok")
    assert output is not None
    assert output.to_json() == {"status": 0, "err": "couldn't find end of rfc822 headers in 1048576"}


async def test_the_sender_is_kept_but_not_serialised() -> None:
    output, _ = await judge(make_step("a@a.example", ["b@b.example"], MESSAGE.replace("üß".encode(), b"us")))
    assert output is not None
    assert output.from_address == Address("ann", "example.com")
    assert output.to_json() == {"status": 3, "received_header_count": 1}


@pytest.mark.parametrize(("params", "status"), [((), Level.BASIC), ((EsmtpParam("smtputf8"),), Level.HIGH)])
async def test_utf8_is_valid_where_the_client_announced_it(params: tuple[EsmtpParam, ...], status: Level) -> None:
    step = make_step("a@a.example", ["b@b.example"], MESSAGE)
    step.mail_from = Mailbox("a@a.example", params)
    output, _ = await judge(step)
    assert output is not None
    assert output.status == status
