import base64
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message.transfer import base64_length, encode_base64, is_utf8, measure, with_line_ends
from tests.support.bodies import Pieces


async def join(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@given(st.binary(max_size=400), st.integers(1, 150), st.integers(0, 600))
async def test_base64(content: bytes, size: int, start: int) -> None:
    encoded = await join(encode_base64(Pieces(content, size)))
    assert base64.b64decode(encoded) == content
    assert encoded == base64.encodebytes(content).replace(b"\n", b"\r\n")
    assert len(encoded) == base64_length(len(content))
    assert await join(encode_base64(Pieces(content, size), start)) == encoded[start:]


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\xc3"])).map(b"".join), st.integers(1, 5))
async def test_line_ends(content: bytes, size: int) -> None:
    expected = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert await join(with_line_ends(Pieces(content, size))) == expected
    found = await measure(Pieces(content, size))
    assert (found.length, found.ascii) == (len(expected), expected.isascii())


@pytest.mark.parametrize("content", [b"", b"abc", "grüße ❤".encode(), b"\xff", b"\xc3", b"a\xc3(", b"\xed\xa0\x80"])
@pytest.mark.parametrize("size", [1, 100])
async def test_utf8(content: bytes, size: int) -> None:
    try:
        content.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    assert await is_utf8(Pieces(content, size)) is expected
