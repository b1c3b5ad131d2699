"""Content out of its transfer encoding, in pieces (RFC 2045 §6): lenient as Python's email package is, and in linear time.

What is damaged decodes as far as it goes; nothing here raises.
"""

from __future__ import annotations

import binascii
import re
from typing import Protocol

from koukan.message import charset

_NOT_BASE64 = bytes(
    octet for octet in range(256) if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)
#: characters of a quoted-printable line that are held until its end is there; legal lines have 76
_HELD_LINE = 4096

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
        return binascii.a2b_qp(data[:cut])

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return binascii.a2b_qp(held)


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
