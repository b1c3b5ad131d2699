"""Content out of its transfer encoding, in pieces (RFC 2045 §6): lenient as Python's email package is, and in linear time.

What is damaged decodes as far as it goes; nothing here raises.
"""

from __future__ import annotations

import binascii
import enum
import re
from typing import Protocol

from koukan.message import charset

_NOT_BASE64 = bytes(
    octet for octet in range(256) if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)
#: characters of a line that are held until its end is there; legal lines have 76
_HELD_LINE = 4096
_PADDING = re.compile(rb"(?<![ \t])[ \t]++(?=[\r\n])")
#: names of an encoding that has no standard
_UUENCODE = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})
_BEGIN = re.compile(rb"^begin [0-7]{3,4} [^\r\n]*\r?\n", re.MULTILINE)

_LINE_END = re.compile(r"\r\n|\r")


class Decoder(Protocol):
    """Takes encoded bytes in pieces, gives decoded ones."""

    def feed(self, data: bytes) -> bytes:
        """What `data` brings."""
        ...

    def end(self) -> bytes:
        """What was still held."""
        ...


def decoder(encoding: str) -> Decoder:
    """The decoder for a Content-Transfer-Encoding; one that changes nothing where it is none that we know."""
    if encoding == "base64":
        return _Base64()
    if encoding in _UUENCODE:
        return _Uuencode()
    return _QuotedPrintable() if encoding == "quoted-printable" else _Identity()


class _Identity:
    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _Base64:
    """Ignores what is not of the alphabet; padding ends the content, so that a footer behind it is no part of it."""

    def __init__(self) -> None:
        self._held = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        if self._ended:
            return b""
        data = self._held + data.translate(None, _NOT_BASE64)
        padding = data.find(b"=")
        if padding >= 0:
            self._ended = True
            data = data[:padding]
        whole = len(data) // 4 * 4
        self._held = data[whole:]
        decoded = binascii.a2b_base64(data[:whole])
        return decoded + self.end() if self._ended else decoded

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return binascii.a2b_base64(held + b"=" * (4 - len(held))) if len(held) > 1 else b""


class _QuotedPrintable:
    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data if self._held else data
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > _HELD_LINE:
            # A line without end: all but a code that may not be complete.
            code = data.rfind(b"=", len(data) - 3)
            cut = len(data) if code < 0 else code
        self._held = data[cut:]
        # White space at the end of a line is padding, also behind the mark of a soft line end (RFC 2045 §6.7, rule 3).
        return binascii.a2b_qp(_PADDING.sub(b"", data[:cut]))

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return binascii.a2b_qp(_PADDING.sub(b"", held).rstrip(b" \t"))


class _Place(enum.Enum):
    """Where in a uuencoded content we are."""

    BEFORE = enum.auto()
    FILE = enum.auto()
    BEHIND = enum.auto()
    #: nowhere: it is not uuencoded
    PLAIN = enum.auto()


class _Uuencode:
    """The file between `begin` and `end`; content that has no such lines near its beginning stays as it is."""

    def __init__(self) -> None:
        self._held = b""
        self._place = _Place.BEFORE

    def feed(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        if self._place is _Place.BEFORE:
            begin = _BEGIN.search(data)
            if begin is None and len(data) <= _HELD_LINE:
                self._held = data
                return b""
            self._place = _Place.FILE if begin else _Place.PLAIN
            data = data[begin.end() :] if begin else data
        return data if self._place is _Place.PLAIN else self._lines(data)

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held if self._place is _Place.BEFORE else self._lines(held + b"\n")

    def _lines(self, data: bytes) -> bytes:
        cut = data.rfind(b"\n") + 1
        self._held = data[cut:][-_HELD_LINE:]
        octets: list[bytes] = []
        for line in data[:cut].splitlines() if self._place is _Place.FILE else ():
            if line.rstrip() == b"end":  # no line of a file: it would be longer
                self._place = _Place.BEHIND
                break
            octets.append(_uu_line(line))
        return b"".join(octets)


def _uu_line(line: bytes) -> bytes:
    """What one line stands for; nothing when it is damaged or none."""
    octets = (line[0] - 0x20) & 0x3F if line else 0
    length = 1 + (octets + 2) // 3 * 4
    if length > 2 * len(line) + 4:
        return b""  # spaces at the end may have been lost on the way, but no more than are there
    try:
        # Some programs write more characters than the octets need.
        return binascii.a2b_uu(line[:length]) if octets else b""
    except binascii.Error:
        return b""


class TextDecoder:
    """Bytes to text: the charset decoded, what cannot be becomes U+FFFD, and every line end becomes LF."""

    def __init__(self, charset_name: str) -> None:
        self._decoder = charset.decoder(charset_name)
        self._cr = False

    def feed(self, data: bytes, *, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        if self._cr:
            text = "\r" + text
        # A CR at the end may be half of a line end.
        self._cr = text.endswith("\r") and not final
        if self._cr:
            text = text[:-1]
        return _LINE_END.sub("\n", text) if "\r" in text else text


def line_end_length(tail: bytes) -> int:
    """How many of the last bytes are a line end."""
    return 2 if tail.endswith(b"\r\n") else int(tail.endswith((b"\r", b"\n")))
