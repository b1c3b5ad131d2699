import asyncio
import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.message import dsn
from koukan.message.bodies import SpecBody
from koukan.message.dsn import FailedRecipient, make_bounce
from koukan.model import EsmtpParam, HostPort, Mailbox, Response

NOW = datetime(2024, 3, 6, 18, 42, 31, tzinfo=UTC)
ORIGINAL = (
    b"Received: by x\r\nFrom: ann@example.com\r\nMessage-ID: <q1@example.com>\r\nSubject: hi\r\n\r\nsecret text\r\n"
)


def failure(address: str = "bob@example.net", message: str = "5.1.1 no such user", **more: Any) -> FailedRecipient:
    params = tuple(EsmtpParam(k, v) for k, v in more.pop("params", {}).items())
    return FailedRecipient(
        Mailbox(address, params), Response(more.pop("code", 550), message), more.pop("next_hop", None)
    )


async def bounce(
    *failed: FailedRecipient, original: Any = ORIGINAL, sender: Mailbox | None = None, **more: Any
) -> bytes:
    return await make_bounce(
        sender=sender or Mailbox("ann@example.com"),
        failed=failed or [failure()],
        original=BytesBody(original) if isinstance(original, bytes) else original,
        mailer_daemon=more.get("mailer_daemon", "mailer-daemon@mx.example.org"),
        arrived=more.get("arrived", NOW - timedelta(hours=1)),
        now=NOW,
    )


def parse(data: bytes) -> EmailMessage:
    """The bounce as Python's email package sees it: a report without a single defect."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", data), "line ends are CRLF"
    assert max(map(len, data.split(b"\r\n"))) <= 998
    message = message_from_bytes(data, policy=policy.SMTP)
    for part in message.walk():
        assert part.defects == []
        for name, value in part.items():
            assert getattr(value, "defects", ()) == (), f"{name}: {value}"
        if not part.is_multipart():
            part.get_payload(decode=True)
            assert part.defects == []
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    return message


def blocks(message: EmailMessage) -> list[Any]:
    parts: Any = message.get_payload()
    assert parts[1].get_content_type() == "message/delivery-status"
    return list(parts[1].get_payload())


async def test_a_bounce_is_a_valid_report() -> None:
    hop = HostPort("mx.example.net", 25)
    message = parse(await bounce(failure(next_hop=hop), failure("eve@example.net", "5.2.2 full", code=552)))
    assert message["from"] == "Mail Delivery Subsystem <mailer-daemon@mx.example.org>"
    assert message["to"] == "ann@example.com"
    assert message["auto-submitted"] == "auto-replied"
    assert message["date"] == "Wed, 06 Mar 2024 18:42:31 +0000"
    assert re.fullmatch(r"<[0-9a-f]{32}@mx\.example\.org>", message["message-id"])
    assert message["in-reply-to"] == message["references"] == "<q1@example.com>"
    assert message["mime-version"] == "1.0"
    about, bob, eve = blocks(message)
    assert dict(about.items()) == {
        "Reporting-MTA": "dns; mx.example.org",
        "Arrival-Date": "Wed, 06 Mar 2024 17:42:31 +0000",
    }
    assert dict(bob.items()) == {
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Wed, 06 Mar 2024 18:42:31 +0000",
    }
    assert eve["Status"] == "5.2.2"
    assert "Remote-MTA" not in eve


async def test_people_read_what_happened() -> None:
    hop = HostPort("mx.example.net", 25)
    message = parse(await bounce(failure(message="5.1.1 no such user\n5.1.1 ask Éva", next_hop=hop)))
    text = message.get_payload(0).get_content().replace("\r\n", "\n")
    assert "mx.example.org" in text
    assert "Wed, 06 Mar 2024 17:42:31 +0000" in text
    assert "<bob@example.net>\n  The server mx.example.net answered:\n" in text
    assert "  550-5.1.1 no such user\n  550 5.1.1 ask Éva\n" in text


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("4.4.1 the mail server cannot be reached, or hung up", "was tried"),
        ("4.4.2 connection dropped", "was tried"),
        ("4.2.1 over quota", "answered"),
    ],
)
async def test_nobody_is_said_to_have_answered_who_could_not_be_reached(reply: str, said: str) -> None:
    message = parse(await bounce(failure(message=reply, code=450, next_hop=HostPort("mx.example.net", 25))))
    assert f"  The server mx.example.net {said}:\r\n  450 {reply}" in message.get_payload(0).get_content()


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("<q1@worldnet.example> (added by postmaster@attrh3i.attrh.example)", "<q1@worldnet.example>"),
        (
            "\r\n <AM9PR04MB8@AM9PR04MB8.eurprd04.prod.outlook.example>",
            "<AM9PR04MB8@AM9PR04MB8.eurprd04.prod.outlook.example>",
        ),
        ("none", "<none>"),
        ("", None),
    ],
)
async def test_a_bounce_stands_beside_its_original(field: str, found: str | None) -> None:
    message = parse(await bounce(original=f"Message-ID: {field}\r\nSubject: x\r\n\r\n".encode()))
    assert message["in-reply-to"] == message["references"] == found


async def test_the_original_is_quoted_without_its_content() -> None:
    data = await bounce()
    parts: Any = parse(data).get_payload()
    assert parts[2].get_content_type() == "text/rfc822-headers"
    assert parts[2].get_payload(decode=True) == ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert b"secret" not in data


@pytest.mark.parametrize("original", [None, b"", b"\r\nno headers at all\r\n"])
async def test_without_headers_the_third_part_is_left_out(original: bytes | None) -> None:
    message = parse(await bounce(original=original))
    assert len(list(message.iter_parts())) == 2
    assert message["references"] is None


async def test_bare_line_ends_of_the_original_become_those_of_mail() -> None:
    parts: Any = parse(await bounce(original=b"Subject: a\nFrom: b@c.d\n\ntext\n")).get_payload()
    assert parts[2].get_payload(decode=True) == b"Subject: a\r\nFrom: b@c.d\r\n"


async def test_headers_of_a_builder_body_are_rendered() -> None:
    spec = {"headers": [["subject", "réport"], ["message-id", ["q2@example.com"]], ["bcc", [{"address": "x@y.z"}]]]}
    message = parse(await bounce(original=SpecBody(spec, {"a": SpooledBody()})))
    parts: Any = message.get_payload()
    assert message["references"] == "<q2@example.com>"
    assert parts[2].get_payload(decode=True) == (
        b"subject: =?utf-8?q?r=C3=A9port?=\r\nmessage-id: <q2@example.com>\r\n"
    )


async def test_quoted_headers_are_bounded_by_whole_lines() -> None:
    line = b"X-Filler: " + b"x" * 60 + b"\r\n"
    parts: Any = parse(await bounce(original=line * 2000 + b"\r\ntext")).get_payload()
    quoted = parts[2].get_payload(decode=True)
    assert dsn.MAX_QUOTED_HEADERS - 2 * len(line) < len(quoted) <= dsn.MAX_QUOTED_HEADERS
    assert quoted == line * (len(quoted) // len(line))


async def test_headers_of_a_message_that_is_still_arriving_are_quoted() -> None:
    body = SpooledBody()
    body.append(b"Subject: half\r\n\r\nto be continued")
    parts: Any = parse(await asyncio.wait_for(bounce(original=body), 1)).get_payload()
    assert parts[2].get_payload(decode=True) == b"Subject: half\r\n"


@pytest.mark.parametrize("aborted", [True, False])
async def test_an_original_that_never_arrives_does_not_stop_the_bounce(
    aborted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsn, "HEADERS_TIMEOUT", 0.01)
    body = SpooledBody()
    body.append(b"Subject: ha")
    if aborted:
        body.abort("the client went away")
    message = parse(await asyncio.wait_for(bounce(original=body), 5))
    assert len(blocks(message)) == 2


async def test_a_builder_body_that_cannot_be_rendered_does_not_stop_the_bounce() -> None:
    message = parse(
        await bounce(failure(code=550, message="5.6.0 bad"), original=SpecBody({"headers": [["a b", ""]]}, {}))
    )
    assert blocks(message)[1]["Status"] == "5.6.0"


@pytest.mark.parametrize(
    ("code", "message", "status", "diagnostic"),
    [
        (550, "no such user", "5.0.0", "smtp; 550 no such user"),
        (450, "4.2.1 later", "4.2.1", "smtp; 450 4.2.1 later"),
        (550, "4.2.1 confused", "5.0.0", "smtp; 550 4.2.1 confused"),
        (250, "2.0.0 ok", "5.0.0", "smtp; 250 2.0.0 ok"),
        (552, "5.3.4 first\n5.3.4 second", "5.3.4", "smtp; 552-5.3.4 first 552 5.3.4 second"),
        (
            550,
            "5.1.1 a\r\nFinal-Recipient: rfc822; x@y.z",
            "5.1.1",
            "smtp; 550-5.1.1 a 550 Final-Recipient: rfc822; x@y.z",
        ),
        (550, "5.1.1 a\n\nb", "5.1.1", "smtp; 550-5.1.1 a 550- 550 b"),
        (554, "", "5.0.0", "smtp; 554"),
        (550, "5.7.1 é\x00\x7f", "5.7.1", "smtp; 550 5.7.1 \\x{E9}\\x{FFFD}\\x{FFFD}"),
    ],
)
async def test_replies(code: int, message: str, status: str, diagnostic: str) -> None:
    block = blocks(parse(await bounce(failure(code=code, message=message))))[1]
    assert block["Status"] == status
    assert re.sub(r"\s+", " ", block["Diagnostic-Code"]) == re.sub(r"550- ", "550- ", diagnostic)


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600"])
async def test_endless_replies_are_cut(character: str) -> None:
    data = await bounce(failure(message="\n".join(["5.1.1 " + character * 5000] * 500)))
    assert len(parse(data).as_bytes()) < 150_000


@pytest.mark.parametrize(
    ("orcpt", "field"),
    [
        ("rfc822;bob+2Bx@example.net", "rfc822; bob+x@example.net"),
        ("utf-8;j\\x{F6}rg@example.net", "utf-8; j\\x{F6}rg@example.net"),
        ("utf-8;jörg@example.net", "utf-8; j\\x{F6}rg@example.net"),
        ("rfc822;a+0D+0AStatus:+202.0.0", "rfc822; a\\x{0D}\\x{0A}Status: 2.0.0"),
        ("nonsense", None),
        (None, None),
    ],
)
async def test_original_recipient(orcpt: str | None, field: str | None) -> None:
    found = blocks(parse(await bounce(failure(params={"ORCPT": orcpt}))))
    assert len(found) == 2
    assert found[1]["Original-Recipient"] == field
    assert found[1]["Status"] == "5.1.1"


@pytest.mark.parametrize(
    ("host", "mta"),
    [("192.0.2.1", "dns; [192.0.2.1]"), ("2001:db8::1", "dns; [IPv6:2001:db8::1]"), ("a\r\nb: c", "dns; a??b:?c")],
)
async def test_remote_mta(host: str, mta: str) -> None:
    assert blocks(parse(await bounce(failure(next_hop=HostPort(host, 25)))))[1]["Remote-MTA"] == mta


async def test_internationalized_addresses() -> None:
    """RFC 6533: the report stays ASCII, the header of the bounce has the sender's address as it is (RFC 6532)."""
    sender = Mailbox("ännchen@bücher.example", (EsmtpParam("SMTPUTF8"),))
    data = await bounce(failure("jörg+x@bücher.example"), sender=sender)
    message = message_from_bytes(data, policy=policy.SMTPUTF8)
    assert "ännchen@bücher.example" in str(message["to"])
    assert blocks(message)[1]["Final-Recipient"] == "utf-8; j\\x{F6}rg\\x{2B}x@b\\x{FC}cher.example"
    assert "<jörg+x@bücher.example>" in message.get_payload(0).get_content()


async def test_headers_of_smtputf8_mail_are_quoted_as_they_are() -> None:
    original = "Subject: grüße\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n".encode()
    message = parse(await bounce(original=original, sender=Mailbox("ann@example.com", (EsmtpParam("smtputf8"),))))
    assert message["content-transfer-encoding"] == "8bit"
    parts: Any = message.get_payload()
    assert parts[2].get_content_type() == "message/global-headers"
    assert "Subject: grüße\r\n".encode() in parts[2].as_bytes()


@pytest.mark.parametrize(
    "original", ["Subject: grüße\r\n\r\n".encode(), b"Subject: gr\xfc\xdfe\r\n\r\n", b"X: a\0b\r\n\r\n"]
)
async def test_what_7bit_mail_cannot_carry_is_encoded(original: bytes) -> None:
    data = await bounce(original=original)
    assert data.isascii()
    parts: Any = parse(data).get_payload()
    assert parts[2].get_content_type() == "text/rfc822-headers"
    assert parts[2].get_payload(decode=True).decode() == original.decode("utf-8", "replace")[:-2]


@pytest.mark.parametrize(
    "daemon", ["mailer-daemon@", "mailer-daemon@under_score.example", "a\r\nb: c", "", "x@local host"]
)
async def test_a_bounce_comes_whatever_the_host_is_called(daemon: str) -> None:
    message = parse(await bounce(mailer_daemon=daemon))
    assert str(message["from"]) == "Mail Delivery Subsystem <mailer-daemon@localhost>"


@pytest.mark.parametrize(
    ("sender", "local", "domain"),
    [
        ("keitai..taro.@docomo.example", "keitai..taro.", "docomo.example"),
        (".ann@example.com", ".ann", "example.com"),
        ("root@web_01.example.com", "root", "web_01.example.com"),
        ("a..b@web_01.example.com", "a..b", "web_01.example.com"),
        ("0102019a-b.c@[IPv6:2001:db8::1]", "0102019a-b.c", "[IPv6:2001:db8::1]"),
    ],
)
async def test_the_header_of_a_bounce_is_addressed_to_the_return_path(sender: str, local: str, domain: str) -> None:
    [to] = parse(await bounce(sender=Mailbox(sender)))["to"].addresses
    assert (to.username, to.domain) == (local, domain)


async def test_a_sender_that_no_header_can_hold_is_still_told() -> None:
    message = parse(await bounce(sender=Mailbox("a@b.c>\r\nBcc: x@y.z")))
    assert message["to"] is None
    assert message["bcc"] is None


async def test_the_envelope_id_of_the_sender_comes_back() -> None:
    """RFC 3461 §4.4."""
    sender = Mailbox("ann@example.com", (EsmtpParam("ENVID", "q+2B1+0D+0AX:+20y"),))
    message = parse(await bounce(sender=sender))
    assert blocks(message)[0]["Original-Envelope-Id"] == "q+1\\x{0D}\\x{0A}X: y"


async def test_more_header_fields_than_are_looked_at() -> None:
    original = b"a:\r\n" * 12_000 + "b: é\r\n\r\n".encode()
    message = parse(await bounce(original=original, sender=Mailbox("ann@example.com", (EsmtpParam("SMTPUTF8"),))))
    parts: Any = message.get_payload()
    assert parts[2].get_payload(decode=True) == original[:-2]


async def test_dates_keep_their_zone() -> None:
    arrived = NOW.astimezone(timezone(timedelta(hours=-8)))
    assert blocks(parse(await bounce(arrived=arrived)))[0]["Arrival-Date"] == "Wed, 06 Mar 2024 10:42:31 -0800"


@given(st.text(max_size=50), st.text(max_size=200), st.text(max_size=30), st.text(max_size=30), st.binary(max_size=200))
def test_nothing_breaks_out_of_a_bounce(address: str, reply: str, host: str, orcpt: str, original: bytes) -> None:
    hop = HostPort(host, 25)
    found = failure(address, reply, next_hop=hop, params={"ORCPT": f"rfc822;{orcpt}"})
    message = parse(asyncio.run(bounce(found, failure(), original=original)))
    assert len(blocks(message)) == 3
    assert set(message.keys()) <= {
        *("From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    }
