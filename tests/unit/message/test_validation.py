import asyncio
import base64
import tracemalloc
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody
from koukan.message.address import Address
from koukan.message.validation import Level, Verdict, validate
from tests.support.bodies import Pieces
from tests.support.cost import at_most

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
MIB = 1024 * 1024
HEAD = (
    b"From: Ann <ann@example.com>\r\nDate: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <a@example.com>\r\n"
    b"MIME-Version: 1.0\r\n"
)
MIXED = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
BASE64 = HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n"


def judge(data: bytes, *, smtputf8: bool = False) -> Verdict:
    return asyncio.run(validate(BytesBody(data), smtputf8=smtputf8))


@pytest.mark.parametrize(
    ("name", "level", "reason"),
    [
        ("trivial", Level.HIGH, None),
        ("multipart", Level.HIGH, None),
        ("multipart2", Level.MEDIUM, "mime tree"),
        ("related", Level.HIGH, None),
        ("nested", Level.HIGH, None),
        ("dsn", Level.HIGH, None),
        ("dsn-text-rfc822-headers", Level.HIGH, None),
        ("unknown_content_type", Level.HIGH, None),
        ("bad_headers", Level.NONE, "MissingHeaderBodySeparatorDefect"),
        ("ascii_ctl_headers", Level.BASIC, "invalid text encoding in headers"),
        ("8bit_headers", Level.BASIC, "invalid text encoding in headers"),
        ("utf8_headers", Level.BASIC, "invalid text encoding in headers"),
        ("utf8_local_part", Level.BASIC, "invalid text encoding in headers"),
        ("bad_from", Level.BASIC, "invalid from(not a list of addresses)"),
        ("bad_date", Level.BASIC, "invalid date(not a date)"),
        ("missing_headers", Level.BASIC, "missing/multiple from"),
        ("bad_cc", Level.MEDIUM, "mime tree"),
        ("bad_multipart", Level.MEDIUM, "mime tree"),
    ],
)
def test_test_data(name: str, level: Level, reason: str | None) -> None:
    verdict = judge((MESSAGES / f"{name}.msg").read_bytes())
    assert (verdict.level, verdict.reason) == (level, reason)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("utf8_headers", Level.HIGH),
        ("utf8_local_part", Level.HIGH),
        ("trivial", Level.HIGH),
        ("8bit_headers", Level.BASIC),
        ("ascii_ctl_headers", Level.BASIC),
    ],
)
def test_test_data_with_smtputf8(name: str, level: Level) -> None:
    assert judge((MESSAGES / f"{name}.msg").read_bytes(), smtputf8=True).level == level


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "couldn't find end of rfc822 headers in 1048576"),
        (b"From: ann@example.com\n\nbody\n", "couldn't find end of rfc822 headers in 1048576"),
        (b"X: " + b"y" * MIB + b"\r\n\r\n", "couldn't find end of rfc822 headers in 1048576"),
        (HEAD + b"no header\r\n\r\n", "MissingHeaderBodySeparatorDefect"),
        (HEAD + b"--no header\r\n\r\n", "MissingHeaderBodySeparatorDefect"),
        (MIXED[:-2] + b"--b\r\n\r\nx\r\n--b--\r\n", "MissingHeaderBodySeparatorDefect"),
        (b"A: b\r\n" * 10_001 + b"\r\n", "more than 10000 header fields"),
    ],
)
def test_nothing_that_has_a_header_block(message: bytes, reason: str) -> None:
    assert judge(message) == Verdict(Level.NONE, reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"From: Ann <ann@example.com>\r\n", b"", "missing/multiple from"),
        (b"From: ", b"From: x@y.example\r\nFROM: ", "missing/multiple from"),
        (b"Ann <ann@example.com>", b"", "invalid from(empty)"),
        (b"Date: ", b"X-Date: ", "missing/multiple date"),
        (b"Date: Sat, ", b"Date: 99 ", "invalid date(not a date)"),
        (b"Message-ID", b"Message", "missing/multiple message-id"),
        (b"<a@example.com>", b"a@example.com", "invalid message-id(not a message id)"),
        (b"<a@example.com>", b"<a@example.com", "invalid message-id(not a message id)"),
        (b"Ann <", b"A\x00nn <", "invalid text encoding in headers"),
    ],
)
def test_fields_that_a_message_has_once(old: bytes, new: bytes, reason: str) -> None:
    verdict = judge(HEAD.replace(old, new, 1) + b"\r\nbody\r\n")
    assert (verdict.level, verdict.reason) == (Level.BASIC, reason)


@pytest.mark.parametrize(
    "message",
    [
        HEAD + b"To: a b@c.example\r\n\r\n",
        HEAD + b"To: =?utf-8?q?=FF?= <a@b.example>\r\n\r\n",
        HEAD + b"Content-Type: text\r\n\r\n",
        HEAD + b"Content-Type: text/plain; charset\r\n\r\n",
        HEAD + b"Content-Disposition: \r\n\r\n",
        HEAD + b"Content-Transfer-Encoding: 7 bit\r\n\r\n",
        HEAD.replace(b"1.0", b"one") + b"\r\n",
        HEAD + b"Resent-Date: never\r\n\r\n",
        b" continued\r\n" + HEAD + b"\r\n",
        HEAD + b": no name\r\n\r\n",
        HEAD + b"Content-Type: multipart/mixed\r\n\r\n",
        MIXED,
        MIXED + b"--b\r\nX: y\r\n--no header\r\n\r\nx\r\n--b--\r\n",
        MIXED + b"--b\r\n\r\nx\r\n",
        MIXED + b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n",
        MIXED + b"--b\r\nTo: \xe4@b.example\r\n\r\nx\r\n--b--\r\n",
        MIXED.replace(b"MIME", b"Content-Transfer-Encoding: base64\r\nMIME") + b"--b\r\n\r\nx\r\n--b--\r\n",
        BASE64 + b"YWI\r\n",
        BASE64 + b"YW J=\r\n",
        BASE64 + b"YWI=YWI=\r\n",
        BASE64 + b"A===\r\n",
        BASE64 + b"====\r\n",
    ],
)
def test_defects_within(message: bytes) -> None:
    assert judge(message).level == Level.MEDIUM
    assert has_defects(message)


@pytest.mark.parametrize(
    "message",
    [
        HEAD + b"\r\n",
        HEAD + b'To: "Doe, J." <j@d.example>, Team: a@b.example;\r\n\r\n',
        HEAD + b"Subject: =?utf-8?q?caf=C3=A9?= =?utf-8?b?w6k=?=\r\n\r\n",
        HEAD + b"Subject: a =? =?no-such?q?b?= =?utf-8?q?=FF?= \x7f\r\n\r\n",
        MIXED + b"--b\r\n\r\nx\r\n--b--\r\n",
        MIXED + b"preamble\r\n--b  \r\n\r\nx\r\n--b--\r\nepilogue\r\n--b\r\n",
        MIXED + b"--b\r\nX: y\r\n--b--\r\n",
        MIXED[:-1] + b"--b\r\n\r\nx\r\n--b--\r\n\r\n",
        BASE64 + b"YWI=\r\n",
        BASE64 + b"YW\r\nI=\r\n\r\n",
        BASE64,
        HEAD.replace(b"+0000", b"-0000") + b"\r\n",
        HEAD.replace(b" +0000", b"") + b"\r\n",
    ],
)
def test_no_defects(message: bytes) -> None:
    assert judge(message).level == Level.HIGH
    assert not has_defects(message)


def has_defects(message: bytes) -> bool:
    """What Python's email package finds."""
    parsed = message_from_bytes(message, policy=policy.SMTP)
    for part in parsed.walk():
        part.get_payload(decode=True)
        if part.defects or any(value.defects for _, value in part.items()):
            return True
    return False


@pytest.mark.parametrize(("depth", "level"), [(20, Level.HIGH), (21, Level.MEDIUM)])
def test_nesting(depth: int, level: Level) -> None:
    message = b"body\r\n"
    for i in range(depth):
        message = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s--b%d--\r\n" % (i, i, message, i)
    assert judge(HEAD + message.replace(b"body", b"\r\nbody")).level == level


def test_received_headers_are_counted_and_the_sender_is_kept() -> None:
    verdict = judge(b"Received: x\r\nReceived: y\r\n" + HEAD + b"received: z\r\n\r\n")
    assert (verdict.received_count, verdict.sender) == (3, Address("ann", "example.com"))


@pytest.mark.parametrize("sender", [b"a@b.example, c@d.example", b"nobody", b"<" * 20_000])
def test_without_exactly_one_sender_none_is_kept(sender: bytes) -> None:
    assert judge(HEAD.replace(b"Ann <ann@example.com>", sender) + b"\r\n").sender is None


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_pieces_make_no_difference(size: int) -> None:
    for path in sorted(MESSAGES.glob("*.msg")):
        data = path.read_bytes()
        assert asyncio.run(validate(Pieces(data, size))) == judge(data), path.name


HOSTILE = {
    "parts": MIXED + b"--b\n\nx\n" * 100_000 + b"--b--\r\n",
    "nested": HEAD
    + b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (i, i) for i in range(10_000)),
    "boundaries": MIXED
    + b"".join(b"--b\nContent-Type: multipart/x; boundary=c%d\n\n--c%d\n\n" % (i, i) for i in range(18_000)),
    "lines like delimiters": MIXED + b"--b\r\n\r\n" + b"--x\n" * (MIB // 4),
    "header lines like delimiters": MIXED + b"--b\r\n" + b"--x:y\n" * (MIB // 6),
    "old line ends": MIXED + b"--b\r\n\r\n" + b"\r--" * (MIB // 3),
    "fields": HEAD + b"a:\n" * (MIB // 3),
    "status blocks": HEAD + b"Content-Type: message/delivery-status\r\n\r\n" + b"a:b\n\n" * (MIB // 5),
    "addresses": HEAD + b"To: " + b'"a" <a@b>,' * 26_000 + b"\r\nCc: " + b"(x)" * 80_000 + b"\r\n\r\n",
    "senders": b"From: " + b'"a" <a@b>,' * 26_000 + b"\r\n" + HEAD[29:] + b"\r\n",
    "encoded words": HEAD + b"Subject: " + b"=?utf-8?b?YQ==?= " * 61_000 + b"\r\n\r\n",
    "beginnings of encoded words": HEAD + b"Subject: " + b"=?" * 500_000 + b"\r\n\r\n",
    "parameters": HEAD + b"Content-Type: a/b" + b"; x=y" * 50_000 + b"\r\n\r\n",
    "messages": HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 30_000,
    "zeros": bytes(MIB),
    "blank lines": HEAD + b"\r\n" * (MIB // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_little(name: str) -> None:
    data = HOSTILE[name]
    with at_most(2.0):
        judge(data)
    tracemalloc.start()
    judge(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * MIB


def test_a_large_message_is_not_held_in_memory() -> None:
    data = BASE64 + base64.encodebytes(bytes(8 * MIB)).replace(b"\n", b"\r\n")
    tracemalloc.start()
    assert judge(data).level == Level.HIGH
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


def test_an_ordinary_message_costs_far_less_than_pythons_parser() -> None:
    data = (MESSAGES / "multipart.msg").read_bytes()
    ours = _cost(lambda: judge(data))
    assert ours < _cost(lambda: has_defects(data)) / 3


def _cost(work: Callable[[], object]) -> float:
    began = process_time()
    for _ in range(30):
        work()
    return process_time() - began


@given(st.binary(max_size=2000))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    assert judge(data).level in Level
    assert judge(HEAD + data, smtputf8=True).level in Level


PIECES = st.sampled_from(
    [
        *(b"Content-Type: multipart/mixed; boundary=a\r\n", b"Content-Type: multipart/digest; boundary=c\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Type: message/delivery-status\r\n"),
        *(
            b"Content-Transfer-Encoding: base64\r\n",
            b"\r\n",
            b"\n",
            b"--a\r\n",
            b"--c\r\n",
            b"--a--\r\n",
            b"--c-- \r\n",
        ),
        *(b"text\r\n", b"--text\r\n", b"X: y\r\n", b"--a\r", b" cont\r\n", b"YWI=\r\n", b"To: a, \r\n"),
    ]
)


@settings(max_examples=300)
@example(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n")
@example(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nX: y\r\n")
@example(b"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\nX: y\r\n\r\nX: y\r\n")
@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_what_python_finds_nothing_wrong_with_is_high(data: bytes) -> None:
    message = HEAD + data
    if b"\r\n\r\n" in message and not has_defects(message) and b"--a\r\n--a--" not in message:
        assert judge(message).level == Level.HIGH
