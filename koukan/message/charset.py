"""Text encodings by their MIME name (RFC 2046 §4.1.2), as programs mean them (WHATWG Encoding §4.2) and as far as mail may.

Many a program names a small encoding and writes a larger one that contains it: the larger one is read.
"""

from __future__ import annotations

import codecs
import encodings
import pkgutil
import re
from encodings.aliases import aliases
from functools import lru_cache
from typing import NamedTuple

#: what text is taken for when it names an encoding that nobody knows: contains US-ASCII
DEFAULT = "utf_8"
#: what text is that does not say (RFC 2045 §5.2)
UNNAMED = "us-ascii"

_LONGEST_NAME = 40
# Transformations of bytes, encodings of host names and of source code, and encodings that take quadratic time, can hide
# ASCII, or leave open in which order their octets come: none of them is an encoding of mail.
_NOT_FOR_MAIL = frozenset(
    {
        "aliases",
        "base64_codec",
        "bz2_codec",
        "charmap",
        "hex_codec",
        "idna",
        "mbcs",
        "oem",
        "palmos",
        "punycode",
        "quopri_codec",
        "raw_unicode_escape",
        "rot_13",
        "undefined",
        "unicode_escape",
        "utf_16",
        "utf_32",
        "utf_7",
        "uu_codec",
        "zlib_codec",
    }
)
# A fixed list, because Python's own look-up imports modules by name and remembers every name that it could not find.
_CODECS = frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__)) - _NOT_FOR_MAIL
# Labels of the standard and of Windows that Python lacks, and those that say the direction of bidirectional text (RFC 1556):
# without what stands between letters and digits.
_MORE_ALIASES = {
    "cnbig5": "big5",
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "cp50222": "iso2022_jp",
    "cp51932": "euc_jp",
    "cp51936": "gb2312",
    "cp51949": "euc_kr",
    "cp65001": "utf_8",
    "cseuckr": "euc_kr",
    "cseucpkdfmtjapanese": "euc_jp",
    "csgb2312": "gb2312",
    "csiso88596e": "iso8859_6",
    "csiso88596i": "iso8859_6",
    "csiso88598e": "iso8859_8",
    "csiso88598i": "iso8859_8",
    "csisolatin6": "iso8859_10",
    "csisolatin9": "iso8859_15",
    "csksc56011987": "euc_kr",
    "csmacintosh": "mac_roman",
    "csunicode": "utf_16_le",
    "cswindows31j": "cp932",
    "gb231280": "gb2312",
    "iso10646ucs2": "utf_16_le",
    "iso88596e": "iso8859_6",
    "iso88596i": "iso8859_6",
    "iso88598e": "iso8859_8",
    "iso88598i": "iso8859_8",
    "isoir149": "euc_kr",
    "koi": "koi8_r",
    "koi8": "koi8_r",
    "koi8ru": "koi8_u",
    "ksc56011989": "euc_kr",
    "logical": "iso8859_8",
    "mac": "mac_roman",
    "macce": "mac_latin2",
    "macukrainian": "mac_cyrillic",
    "mscp932": "cp932",
    "suneugreek": "iso8859_7",
    "ucs2": "utf_16_le",
    "unicode": "utf_16_le",
    "unicode11utf8": "utf_8",
    "unicode20utf8": "utf_8",
    "unicodefeff": "utf_16_le",
    "unicodefffe": "utf_16_be",
    "utf16": "utf_16_le",
    "visual": "iso8859_8",
    "windows31j": "cp932",
    "xbig5": "big5",
}
_SAME_AS_DEFAULT = frozenset({"ascii", "utf_8", "utf_8_sig"})
_LARGER = {
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_ext",
    "iso2022_jp_1": "iso2022_jp_ext",
    "iso8859_1": "cp1252",
    "iso8859_11": "cp874",
    "iso8859_9": "cp1254",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
    "tis_620": "cp874",
}
_CODE_PAGE = re.compile(r"(?:windows|win|dos|ibm|ms|pc|cp)(\d+)")
_ISO_8859 = re.compile(r"iso8859(\d+)")

# --- what a codec of Python does not know, and programs write nevertheless ---------------------------------------------------

_WESTERN = "koukan.western"
_JIS = "koukan.jis"
_EUC = "koukan.euc"
_CHINESE = "koukan.chinese"
_ERRORS = {"cp1252": _WESTERN, "cp950": _CHINESE, "euc_jp": _EUC, "iso2022_jp_ext": _JIS}
# Octets that begin no character in UTF-8, as far as that can be said without what may follow.
_NOT_UTF8 = re.compile(rb"(?:[\x80-\xc1\xf5-\xff]|[\xc2-\xf4](?=[^\x80-\xbf]))++")
_WINDOWS_1252 = [bytes((octet,)).decode("cp1252", "ignore") or chr(octet) for octet in range(256)]
# Octets that begin no character: many of them are taken at once.
_BEYOND_7BIT = re.compile(rb"[\x80-\xff]++")
_NOT_EUC = re.compile(rb"[\x80-\x8d\x90-\xa0\xff]++")
_NOT_BIG5 = re.compile(rb"[\x80\xff]++")
_KATAKANA = ["\ufffd"] * 0xA1 + [chr(0xFF61 + i) for i in range(63)] + ["\ufffd"] * 32


def _read_western(error: UnicodeError) -> tuple[str, int]:
    """What is said to be ASCII, or Latin 1, is windows-1252; octets that it leaves free are C1 controls, as WHATWG has it."""
    data, start, end = _place(error)
    if data[start + 1 : start + 2].isascii():
        return _WINDOWS_1252[data[start]], start + 1
    found = _NOT_UTF8.match(data, start)
    end = found.end() if found else end
    return "".join([_WINDOWS_1252[octet] for octet in data[start:end]]), end


def _read_jis(error: UnicodeError) -> tuple[str, int]:
    """NEC's and IBM's characters stand in free rows of JIS X 0208, and half-width katakana where 8 bits pass."""
    data, start, end = _place(error)
    if found := _BEYOND_7BIT.match(data, start):
        return "".join([_KATAKANA[octet] for octet in found[0]]), found.end()
    return _jis(data[start:end]), end


def _read_euc(error: UnicodeError) -> tuple[str, int]:
    """The same in EUC, which is JIS with the eighth bit set."""
    data, start, end = _place(error)
    if found := _NOT_EUC.match(data, start):
        return "\ufffd" * (found.end() - start), found.end()
    text = _euc(data[start : start + 2])
    return (text, start + 2) if text else ("\ufffd", end)


def _read_chinese(error: UnicodeError) -> tuple[str, int]:
    """Hong Kong's characters stand in what Big5 leaves free."""
    data, start, end = _place(error)
    if found := _NOT_BIG5.match(data, start):
        return "\ufffd" * (found.end() - start), found.end()
    text = _hong_kong(data[start : start + 2])
    return (text, start + 2) if text else ("\ufffd", end)


def _place(error: UnicodeError) -> tuple[bytes, int, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object, error.start, error.end


@lru_cache(maxsize=94 * 94)
def _jis(octets: bytes) -> str:
    """A character of JIS X 0208 with its extensions, through Shift_JIS; U+FFFD when there is none."""
    if len(octets) != 2 or min(octets) < 0x21 or max(octets) > 0x7E:
        return "\ufffd"
    row, cell = octets
    lead = ((row - 0x21) >> 1) + (0x81 if row < 0x5F else 0xC1)
    trail = cell + (0x7E if row % 2 == 0 else 0x1F if cell < 0x60 else 0x20)
    text = bytes((lead, trail)).decode("cp932", "replace")
    return text if len(text) == 1 else "\ufffd"


@lru_cache(maxsize=94 * 94)
def _euc(octets: bytes) -> str:
    text = _jis(bytes(octet & 0x7F for octet in octets)) if len(octets) == 2 and min(octets) > 0xA0 else ""
    return text.replace("\ufffd", "")


@lru_cache(maxsize=126 * 157)
def _hong_kong(octets: bytes) -> str:
    text = octets.decode("big5hkscs", "ignore") if len(octets) == 2 and octets[0] > 0x80 else ""
    return "" if text.isascii() else text


codecs.register_error(_WESTERN, _read_western)
codecs.register_error(_JIS, _read_jis)
codecs.register_error(_EUC, _read_euc)
codecs.register_error(_CHINESE, _read_chinese)


# --- names ------------------------------------------------------------------------------------------------------------------


class _Encoding(NamedTuple):
    codec: str
    #: what becomes of octets that the codec does not know
    errors: str
    known: bool


def find_codec(charset: str) -> str | None:
    """The name of Python's codec for a MIME charset; None when it is unknown or not for mail."""
    known = _known_name(charset)
    if known in _SAME_AS_DEFAULT:
        return DEFAULT
    return None if known is None else _LARGER.get(known, known)


def _known_name(charset: str) -> str | None:
    if len(charset) > _LONGEST_NAME or not charset.isascii():
        return None
    name = encodings.normalize_encoding(charset.strip("\"' \t").lower())
    for written in (name, name.removeprefix("x_"), name.removeprefix("x_x_")):
        squeezed = written.replace("_", "")
        numbered = _ISO_8859.sub(r"iso8859_\1", _CODE_PAGE.sub(r"cp\1", squeezed))
        for form in (written, squeezed, numbered):
            for known in (_MORE_ALIASES.get(form), form, aliases.get(form)):
                if known in _CODECS:
                    return known
    return None


def _encoding(charset: str) -> _Encoding:
    codec = find_codec(charset)
    if codec is None:
        return _Encoding(DEFAULT, "replace", known=False)
    if codec == DEFAULT:
        return _Encoding(codec, _WESTERN if _known_name(charset) == "ascii" else "replace", known=True)
    return _Encoding(codec, _ERRORS.get(codec, "replace"), known=True)


# --- text -------------------------------------------------------------------------------------------------------------------


def decode(data: bytes | bytearray, charset: str = DEFAULT) -> tuple[str, bool]:
    """The text of `data`, and whether it is in that charset: what cannot be decoded becomes U+FFFD."""
    codec, errors, known = _encoding(charset)
    try:
        return data.decode(codec, errors if codec == "cp1252" else "strict"), known
    except UnicodeDecodeError:
        return data.decode(codec, errors), False


def decoder(charset: str = DEFAULT) -> codecs.IncrementalDecoder:
    """A decoder for text that comes in pieces; what cannot be decoded becomes U+FFFD."""
    encoding = _encoding(charset)
    return codecs.getincrementaldecoder(encoding.codec)(encoding.errors)


def octets(text: str) -> bytes:
    """The octets that `text` was read from: UTF-8, and those that stand in it as lone surrogates as themselves (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
