import re
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message import charset, encoded_words
from tests.support.cost import at_most


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
        # what is within a word belongs to its charset, also where it was not encoded
        ("=?iso-8859-1?Q?J\udcf6rg?=", "Jörg"),
        ("=?iso-8859-1?Q?JÃ¶rg?=", "JÃƒÂ¶rg"),
        ("=?gb2312?Q?\udcd6\udcd0=CE=C4?= \udcd6\udcd0", "中文 \ufffd\ufffd"),
        ("=?shift_jis?B?h0A=?=", "①"),
        ("=?us-ascii?Q?gr=FC=DFe?=", "grüße"),
        # spaces, question marks, words without space between them, words that were cut
        ("=?UTF-8?Q?What are you doing? [ask]?=", "What are you doing? [ask]"),
        ("=?UTF-8?Q?Really??=", "Really?"),
        ("=?utf-8?q?a=C3?==?utf-8?q?=A9b?=", "aéb"),
        ("=?utf-8?Q?cut off =?utf-8?Q?whole?=", "=?utf-8?Q?cut off whole"),
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
        ("euc-kr", "cp949"),
        ("iso-8859-1", "cp1252"),
        ("latin1", "cp1252"),
        ("iso-8859-9", "cp1254"),
        ("tis-620", "cp874"),
        ("GB2312", "gb18030"),
        ("gb_2312-80", "gb18030"),
        ("x-gbk", "gb18030"),
        ("Big5", "cp950"),
        ("x-x-big5", "cp950"),
        ("big5-hkscs", "big5hkscs"),
        ("Shift_JIS", "cp932"),
        ("x-sjis", "cp932"),
        ("windows-31j", "cp932"),
        ("iso-2022-jp", "iso2022_jp_ext"),
        ("x-euc-jp", "euc_jp"),
        ("ibm850", "cp850"),
        ("dos-866", "cp866"),
        ("windows-874", "cp874"),
        ("x-mac-cyrillic", "mac_cyrillic"),
        ("koi8-ru", "koi8_u"),
        ("iso88592", "iso8859_2"),
        ("unicode-1-1-utf-8", "utf_8"),
        ("utf-16", "utf_16_le"),
        ('"utf-8"', "utf_8"),
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
        "=?a?q?x" * 140_000,
        "=?a?q?" + "??" * 450_000,
        ("=?a?q?" + "x" * 500) * 2_000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    with at_most(1):
        encoded_words.decode(text)
