"""1 MB of anything is parsed within 1 s and 64 MB; what it takes today is a fifth of either at most."""

import json
import tracemalloc
from collections.abc import Callable

import pytest

from koukan.blob.bodies import BytesBody
from koukan.message.parser import MAX_PARTS, MessageParser, ParsedMessage
from tests.support.cost import at_most

SIZE = 1_000_000
MAX_SECONDS = 1.5
MAX_MEMORY = 64_000_000
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def repeated(head: bytes, piece: bytes) -> bytes:
    return head + piece * (SIZE // len(piece))


def nested() -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(10_000))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "100,000 parts": lambda: MIXED + b"--b\r\n\r\na\r\n" * 100_000,
    "parts that are blobs": lambda: repeated(MIXED, b"--b\r\nContent-Type: a/b\r\n\r\na\r\n"),
    "10,000 nested": nested,
    "nested messages": lambda: repeated(b"", b"Content-Type: message/rfc822\r\n\r\n"),
    "status blocks": lambda: repeated(b"Content-Type: message/delivery-status\r\n\r\n", b"a: b\r\n\r\n"),
    "one line": lambda: repeated(b"\r\n", b"x"),
    "short lines": lambda: repeated(b"\r\n", b"\r\n"),
    "lines like delimiters": lambda: repeated(MIXED, b"--x\r\n"),
    "closing delimiters": lambda: repeated(MIXED, b"--b--\r\n"),
    "bare CR": lambda: repeated(MIXED, b"\r--x"),
    "header fields": lambda: repeated(b"", b"a:\n"),
    "structured fields": lambda: repeated(b"", b"to: a@b.c\n"),
    "a long address list": lambda: repeated(b"to: ", b"a@b.c, "),
    "long address lists": lambda: repeated(b"to: a", b"\n b@c.d, " * 100 + b"\nto: x"),
    "open comments": lambda: repeated(b"from: ", b"("),
    "open quotes": lambda: repeated(b"from: ", b'"'),
    "encoded words": lambda: repeated(b"subject: ", b"=?utf-8?q?a?= "),
    "encoded words that are none": lambda: repeated(b"subject: ", b"=?"),
    "parameters": lambda: repeated(b"content-type: text/plain", b"; a=b"),
    "numbered parameters": lambda: repeated(b"content-type: a/b\n", b"content-type: a/b" + b"; a*0=b" * 9000 + b"\n"),
    "dates": lambda: repeated(b"", b"date: 1 Jan 2020 10:00\n"),
    "folded lines": lambda: repeated(b"subject: x", b"\r\n "),
    "quoted-printable": lambda: repeated(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"=41"),
    "soft line ends": lambda: repeated(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"=\r\n"),
    "base64": lambda: repeated(b"Content-Transfer-Encoding: base64\r\n\r\n", b"QUJD"),
    "no base64": lambda: repeated(b"Content-Transfer-Encoding: base64\r\n\r\n", b"*"),
    "padding": lambda: repeated(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b" \t"),
    "padding behind soft line ends": lambda: repeated(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"= \n"),
    "uuencode": lambda: repeated(b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\n", b"#86)C\n"),
    "uuencode without files": lambda: repeated(b"Content-Transfer-Encoding: x-uuencode\r\n\r\n", b"begin"),
    "uuencode cut short": lambda: repeated(b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\n", b"M\n"),
    "words that are none": lambda: repeated(b"subject: ", b"=?a?q?x ? "),
    "octets in words": lambda: repeated(b"subject: ", b"=?gbk?q?\xd6?="),
    "ids": lambda: (b"references: " + b"<a>" * 40_000 + b"\r\n") * 8,
    "messages of a digest": lambda: repeated(
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n", b"--b\r\n\r\na: b\r\n\r\nx\r\n"
    ),
    "related parts": lambda: repeated(
        b"Content-Type: multipart/related; boundary=b; start=x\r\n\r\n", b"--b\r\nContent-ID: y\r\n\r\nx\r\n"
    ),
    "white space before colons": lambda: repeated(b"", b"a \t:\n"),
    "unquoted names": lambda: repeated(b"content-type: a/b", b"; name=(") + b"\n",
    "quoted headers": lambda: repeated(b"Content-Type: text/rfc822-headers\r\n\r\n", b"a:b\r\n"),
    "parts of quoted headers": lambda: repeated(
        MIXED, b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" + b"to: a@b.c\r\n" * 100
    ),
}


def parse(data: bytes) -> ParsedMessage:
    parser = MessageParser(max_inline=2 * SIZE)
    for offset in range(0, len(data), 65536):
        parser.feed(data[offset : offset + 65536])
    return parser.result(BytesBody(data))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_parsed_in_bounded_time_and_memory(name: str) -> None:
    data = HOSTILE[name]()
    assert len(data) <= 1.2 * SIZE
    with at_most(MAX_SECONDS):
        parsed = parse(data)
    parsed.close()
    half = data[: len(data) // 2]  # counting memory takes twenty times as long as parsing
    tracemalloc.start()
    parse(half).close()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < MAX_MEMORY / 2
    assert len(parsed.blobs) <= MAX_PARTS + 1
    assert len(json.dumps(parsed.document)) < 4 * SIZE


def test_a_large_message_is_never_in_memory() -> None:
    line = b"QUJD" * 19 + b"\r\n"
    block = line * (65536 // len(line))
    parser = MessageParser()
    tracemalloc.start()
    parser.feed(MIXED + b"--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n")
    fed = 0
    while fed < 20 * SIZE:
        parser.feed(block)
        fed += len(block)
    parser.feed(b"--b--\r\n")
    parsed = parser.result(BytesBody(b""))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parsed.close()
    assert parsed.blobs["0"].length == fed // len(line) * 57
    assert memory < 2_000_000
