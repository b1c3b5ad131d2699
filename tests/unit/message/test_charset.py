"""Charsets as programs mean them. Their names are in test_encoded_words, with words; contents in test_parser."""

import codecs
from collections.abc import Callable
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message import charset

SIZE = 1_000_000
#: what the worst may take, in times of a handler that looks at every octet
MARGIN = 3


#: what GB 2312 calls a middle dot and a bar, and its successors another middle dot and a dash
MOVED = {"\u30fb": "\u00b7", "\u2015": "\u2014"}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("gb2312", "gb2312"),
        ("x-gbk", "gbk"),
        ("ks_c_5601-1987", "euc_kr"),
        ("iso-8859-1", "latin-1"),
        ("latin5", "latin5"),
    ],
)
@given(st.binary(max_size=60))
def test_the_larger_encoding_reads_what_the_smaller_one_reads(name: str, codec: str, data: bytes) -> None:
    expected = data.decode(codec, "replace")
    ours = charset.decode(data, name)[0]
    if "\ufffd" not in expected:
        # Windows has characters where ISO 8859 has controls.
        pairs = zip(expected, ours, strict=True)
        assert all(other == MOVED.get(one, one) or not one.isprintable() for one, other in pairs)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60), st.binary(max_size=3))
def test_what_says_nothing_is_utf8_wherever_it_can_be(text: str, stray: bytes) -> None:
    assert charset.decode(text.encode(), charset.UNNAMED)[0] == text
    read, _ = charset.decode(text.encode() + b" " + stray + b" " + text.encode(), charset.UNNAMED)
    assert read.startswith(f"{text} ") and read.endswith(f" {text}")


@pytest.mark.parametrize("name", ["us-ascii", "iso-2022-jp", "euc-jp", "big5", "iso-8859-1"])
@given(st.binary(max_size=60), st.integers(1, 7))
def test_pieces_read_as_the_whole(name: str, data: bytes, piece: int) -> None:
    decoder = charset.decoder(name)
    read = "".join(decoder.decode(data[i : i + piece]) for i in range(0, len(data), piece)) + decoder.decode(b"", True)
    assert read == charset.decoder(name).decode(data, True)


HOSTILE = {
    "us-ascii": b"\xffa",
    "iso-2022-jp": b"\xb1a",
    "iso-2022-jp-1": b"\x1b$B" + b"-!" * 1000,
    "euc-jp": b"\xad\xa1\xff",
    "x-euc-jp": b"\x90\xff",
    "big5": b"\x87\x40\xff",
    "x-x-big5": b"\x81\x20",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_octets_cost_little(name: str) -> None:
    codecs.register_error("koukan.test", _read_one)
    every_octet = _seconds(lambda: (b"\xff" * SIZE).decode("utf-8", "koukan.test"))
    data = HOSTILE[name] * (SIZE // len(HOSTILE[name]))
    assert _seconds(lambda: charset.decode(data, name)) < MARGIN * every_octet


def _read_one(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return chr(error.object[error.start]), error.start + 1


def _seconds(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return process_time() - started
