import re
from email.header import decode_header, make_header
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message import charset, encoded_words


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        # RFC 2047 §8
        ("(=?ISO-8859-1?Q?a?=)", "(a)"),
        ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
        (
            "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
            "If you can read this you understand the example.",
        ),
        ("=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld Jørn Simonsen"),
        ("=?iso-8859-8?b?7eXs+SDv4SDs6Oj08A==?=", "םולש ןב לטטפנ"),
        # RFC 2231 §5
        ("=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
        # not in the book, but in mail
        ("plain", "plain"),
        ("=?utf-8?q?a=C3?= =?utf-8?q?=A9b?=", "aéb"),
        ("=?UTF-8?B?w6k?=", "é"),
        ("=?utf-8?q?broken=?=", "broken="),
        ("=?nowhere?q?=C3=A9?=", "é"),
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?b?a?=", "a"),
        ("foo?= =?utf-8?q?b?=", "foo?= b"),
        ("=?utf-8?q?a=0D=0ABcc:_x?=", "a\ufffd\ufffdBcc: x"),
        ("a\x00b\tc", "a\ufffdb\tc"),
    ],
)
def test_decoding(text: str, meaning: str) -> None:
    assert encoded_words.decode(text) == meaning


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.integers(20, 75))
def test_what_is_encoded_comes_back(text: str, room: int) -> None:
    words = encoded_words.encode(text, room)
    assert encoded_words.decode(" ".join(words)) == text
    assert str(make_header(decode_header(" ".join(words)))) == text
    assert all(encoded_words.WORD.fullmatch(word) and len(word) <= 75 for word in words)
    assert not words or len(words[0]) <= max(room, len("=?utf-8?q??=") + 12)


@given(st.text())
def test_any_text_decodes_to_text_without_controls(text: str) -> None:
    assert not re.search(r"[\x00-\x08\n-\x1f]", encoded_words.decode(text))


@given(st.binary(max_size=100), st.sampled_from(sorted(charset._CODECS)))
def test_every_charset_decodes_anything_to_proper_unicode(data: bytes, name: str) -> None:
    assert isinstance(charset.decode(data, name)[0].encode(), bytes)
    decoder = charset.decoder(name)
    pieces = "".join(decoder.decode(data[i : i + 1]) for i in range(len(data))) + decoder.decode(b"", True)
    assert isinstance(pieces.encode(), bytes)


@pytest.mark.parametrize(
    "name", ["hex", "zip", "base64", "rot13", "idna", "punycode", "utf-7", "unicode_escape", "undefined"]
)
def test_transformations_are_no_charsets(name: str) -> None:
    assert charset.find_codec(name) is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("US-ASCII", "utf_8"),
        ("utf8", "utf_8"),
        ("ISO-8859-8-I", "iso8859_8"),
        ("windows-1252", "cp1252"),
        ("cp-850", "cp850"),
        ("ks_c_5601-1987", "cp949"),
        ("x" * 1000, None),
        ("ütf-8", None),
    ],
)
def test_mime_names_of_charsets(name: str, codec: str | None) -> None:
    assert charset.find_codec(name) == codec


@pytest.mark.parametrize(
    "text",
    [
        "=?" * 300_000,
        "=?a?q?" * 150_000,
        "=?utf-8?q?x?= " * 60_000,
        "=?" + "a" * 900_000,
        ("=?utf-8?q?x?=" + " " * 99) * 9_000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    before = process_time()
    encoded_words.decode(text)
    assert process_time() - before < 1
