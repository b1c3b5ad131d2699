from collections.abc import AsyncIterator
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody, ConcatBody
from koukan.errors import InvalidMessage
from koukan.message.address import Address
from koukan.message.headers import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    Field,
    end_of_headers,
    header_from,
    parse_headers,
    read_head,
    read_headers,
)

BLOCK = (
    b"Received: from a\r\n\tby b\r\n"
    b"received: from c by d\r\n"
    b"From: Ann <ann@Example.com>\r\n"
    b"Subject:  two\r\n  lines \r\n"
    b"X-Empty:\r\n"
    b"\r\n"
)


def test_fields_keep_their_order_and_names() -> None:
    headers, end = parse_headers(BLOCK)
    assert [field.name for field in headers] == ["Received", "received", "From", "Subject", "X-Empty"]
    assert headers.fields[0] == Field("Received", b" from a\r\n\tby b")
    assert BLOCK[end:] == b"\r\n"
    assert headers.defect is None


def test_names_compare_without_case_and_values_are_unfolded() -> None:
    headers, _ = parse_headers(BLOCK)
    assert headers.count("RECEIVED") == 2
    assert headers.get("Received") == "from a\tby b"
    assert headers.get("subject") == "two  lines"
    assert headers.get("x-empty") == ""
    assert headers.get("x-none") is None
    assert headers.count("x-none") == 0


def test_white_space_before_a_colon_is_no_part_of_the_name() -> None:
    headers, _ = parse_headers(b"Subject \t: x\r\nFrom: a@b.c\r\n")
    assert headers.fields[0] == Field("Subject", b" x", b" \t")
    assert headers.get("subject") == "x"
    assert headers.get("from") == "a@b.c"


def test_octets_beyond_utf8_become_replacement_characters() -> None:
    assert parse_headers(b"a: \xc3\xa9 \xff\r\n")[0].get("a") == "é \ufffd"


@pytest.mark.parametrize(
    ("block", "names", "rest", "defect"),
    [
        (b"", [], b"", None),
        (b"\r\nbody", [], b"\r\nbody", None),
        (b"a: 1\nb: 2\n\nbody", ["a", "b"], b"\nbody", None),
        (b"a: 1\rb: 2\r\rbody", ["a", "b"], b"\rbody", None),
        (b"a: 1\r\nno header\r\nb: 2\r\n", ["a"], b"no header\r\nb: 2\r\n", "a line is no header"),
        (b"a b: 1\r\n", [], b"a b: 1\r\n", "a line is no header"),
        (b"\xc3\xa9: 1\r\n", [], b"\xc3\xa9: 1\r\n", "a line is no header"),
        (b" folded\r\na: 1\r\n", ["a"], b"", "the first line is a continuation"),
        (b"From someone Mon Jan  1\r\na: 1\r\n", ["a"], b"", None),
        (b"a: 1\r\nFrom someone\r\n", ["a"], b"From someone\r\n", "a line is no header"),
        (b"a: 1", ["a"], b"", None),
        (b"a : 1\r\nb\t: 2\r\nc: 3\r\n", ["a", "b", "c"], b"", "white space before a colon"),
        (b"a : 1\r\nno header\r\n", ["a"], b"no header\r\n", "a line is no header"),
        (b" : 1\r\na: 2\r\n", ["a"], b"", "the first line is a continuation"),
    ],
)
def test_the_block_ends_where_headers_end(block: bytes, names: list[str], rest: bytes, defect: str | None) -> None:
    headers, end = parse_headers(block)
    assert [field.name for field in headers] == names
    assert block[end:] == rest
    assert headers.defect == defect


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"a: 1\r\n\r\nb", 8),
        (b"a: 1\n\nb\r\n\r\n", 6),
        (b"a: 1\r\n\nb\n\n", 7),
        (b"a: 1\n\r\nb", 7),
        (b"a: 1\r\n", -1),
        (b"", -1),
    ],
)
def test_the_end_of_the_block(data: bytes, end: int) -> None:
    assert end_of_headers(data) == end


async def test_reading_stops_at_the_blank_line_wherever_chunks_end() -> None:
    for cut in range(len(BLOCK)):
        body = ConcatBody([BytesBody(BLOCK[:cut]), BytesBody(BLOCK[cut:] + b"X-Not: a header\r\n")])
        headers = await read_headers(body)
        assert [field.name for field in headers] == ["Received", "received", "From", "Subject", "X-Empty"]
        assert headers.complete


@pytest.mark.parametrize(
    ("pieces", "head", "rest"),
    [
        ([b"", b"a: 1\r\n", b"", b"\r\nx"], b"a: 1\r\n\r\n", b"x"),
        ([b"\r", b"\nx"], b"\r\n", b"x"),
        ([b"\r", b"x"], b"\r", b"x"),
        ([b"\nx"], b"\n", b"x"),
        ([b"\r"], b"\r", b""),
        ([b"a: 1\r\n"], b"a: 1\r\n", b""),
        ([], b"", b""),
    ],
)
async def test_the_head_and_what_was_read_behind_it(pieces: list[bytes], head: bytes, rest: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    assert await read_head(chunks()) == (head, rest)


async def test_reading_is_bounded() -> None:
    with pytest.raises(InvalidMessage, match="more than 1048576 octets"):
        await read_head(BytesBody(b"b: " + b"x" * (2 * MAX_HEADER_BYTES)).chunks())
    headers = await read_headers(BytesBody(b"a: 1\r\nb: " + b"x" * (2 * MAX_HEADER_BYTES) + b"\r\n\r\n"))
    assert [field.name for field in headers] == ["a", "b"]
    assert len(headers.fields[1].value) < MAX_HEADER_BYTES
    assert not headers.complete
    with pytest.raises(InvalidMessage, match="10000 header fields"):
        await read_headers(BytesBody(b"a:\r\n" * (MAX_FIELDS + 1) + b"\r\n"))


@pytest.mark.parametrize("message", [b"", b"\r\n", b"\r\nFrom: a@b.c\r\n\r\n"])
async def test_a_message_may_have_no_headers(message: bytes) -> None:
    headers = await read_headers(BytesBody(message))
    assert list(headers) == []
    assert headers.complete


@pytest.mark.parametrize(
    ("block", "addresses"),
    [
        (b"From: Ann <ann@EXAMPLE.com>\r\n", [Address("ann", "example.com")]),
        (b"FROM: a@b.c, D <d@e.f>\r\n", [Address("a", "b.c"), Address("d", "e.f")]),
        (b"From: a@b.c\r\nFrom: d@e.f\r\n", []),
        (b"From: nobody\r\n", []),
        (b"Sender: a@b.c\r\n", []),
    ],
)
def test_the_from_field_gives_addresses(block: bytes, addresses: list[Address]) -> None:
    assert header_from(parse_headers(block)[0]) == addresses


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=10)
VALUES = st.lists(st.text("abc =;", max_size=10).map(lambda text: "x" + text), min_size=1, max_size=3).map(
    "\r\n\t".join
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_fields_are_those_of_pythons_email_package(fields: list[tuple[str, str]]) -> None:
    block = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    theirs = message_from_bytes(block + b"\r\n", policy=policy.compat32)
    ours, _ = parse_headers(block)
    assert [(field.name, field.text) for field in ours] == [
        (name, value.replace("\r\n", "").strip(" ")) for name, value in theirs.items()
    ]


@given(st.binary(max_size=200))
def test_any_block_is_taken_apart(block: bytes) -> None:
    headers, end = parse_headers(block)
    assert 0 <= end <= len(block)
    assert all(isinstance(field.text, str) for field in headers)
