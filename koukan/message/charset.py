"""Text encodings by their MIME name (RFC 2046 §4.1.2), as far as mail may choose them."""

from __future__ import annotations

import codecs
import encodings
import pkgutil
from encodings.aliases import aliases

#: what text is taken for when it does not say, or names an encoding that nobody knows: contains US-ASCII
DEFAULT = "utf_8"

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
# What Python lacks: Windows' own names, and those that say the direction of bidirectional text (RFC 1556).
_MORE_ALIASES = {
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_8_i": "iso8859_8",
    "windows_31j": "cp932",
    "windows_874": "cp874",
    "x_sjis": "cp932",
}
_SAME_AS_DEFAULT = frozenset({"ascii", "utf_8", "utf_8_sig"})


def find_codec(charset: str) -> str | None:
    """The name of Python's codec for a MIME charset; None when it is unknown or not for mail."""
    if len(charset) > 40 or not charset.isascii():
        return None
    name = encodings.normalize_encoding(charset.strip().lower())
    name = _MORE_ALIASES.get(name, name)
    squeezed = name.replace("_", "")
    for known in (name, aliases.get(name), squeezed, aliases.get(squeezed)):
        if known in _SAME_AS_DEFAULT:
            return DEFAULT
        if known in _CODECS:
            return known
    return None


def decode(data: bytes | bytearray, charset: str = DEFAULT) -> tuple[str, bool]:
    """The text of `data`, and whether it is in that charset: what cannot be decoded becomes U+FFFD."""
    codec = find_codec(charset)
    try:
        return data.decode(codec or DEFAULT), codec is not None
    except UnicodeDecodeError:
        return data.decode(codec or DEFAULT, "replace"), False


def decoder(charset: str = DEFAULT) -> codecs.IncrementalDecoder:
    """A decoder for text that comes in pieces; what cannot be decoded becomes U+FFFD."""
    return codecs.getincrementaldecoder(find_codec(charset) or DEFAULT)("replace")
