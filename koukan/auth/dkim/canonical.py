"""The forms of headers and bodies that are hashed (RFC 6376 §3.4), for bodies in pieces and in linear time."""

from __future__ import annotations

import hashlib
import re

from koukan.message.headers import Field, Headers

#: octets of empty lines that are made at a time
_BLOCK = 16 * 1024

_WHITE_SPACE_RUN = re.compile(rb"[ \t]+")
_LINE_END = re.compile(rb"\r?\n")


def canonical_field(field: Field, algorithm: str) -> bytes:
    """A header field, with its line end."""
    return canonical_header(field.name.encode() + field.gap, field.value, algorithm)


def canonical_header(name: bytes, value: bytes, algorithm: str) -> bytes:
    """`name` and `value` as they stand in the message, without the line end of the last line."""
    if algorithm == "simple":
        return b"%s:%s\r\n" % (name, value)
    unfolded = _WHITE_SPACE_RUN.sub(b" ", _LINE_END.sub(b"", value)).strip(b" ")
    return b"%s:%s\r\n" % (name.lower().rstrip(b" \t"), unfolded)


def select_fields(names: tuple[str, ...], headers: Headers, own: Field | None = None) -> list[Field]:
    """The fields that `names` mean: each name takes the lowest field that is not taken yet, if there is one (§5.4.2)."""
    left: dict[str, list[Field]] = {}
    selected: list[Field] = []
    for name in names:
        if name not in left:
            left[name] = [field for field in headers.all(name) if field is not own]
        if left[name]:
            selected.append(left[name].pop())
    return selected


class BodyHash:
    """SHA-256 of a canonical body; `limit` octets of it are hashed, None: all."""

    def __init__(self, algorithm: str, limit: int | None = None) -> None:
        self._hash = hashlib.sha256()
        self._relaxed = algorithm == "relaxed"
        self._limit = limit
        #: octets of the canonical body
        self.length = 0
        #: the end of a piece whose meaning the next one decides: white space, half a line end
        self._carry = b""
        #: line ends that count only if something follows
        self._blank_lines = 0

    def update(self, data: bytes) -> None:
        """The next bytes of the body."""
        data = self._carry + data if self._carry else data
        self._carry = b""
        if self._relaxed:
            data = self._relax(data)
        elif data.endswith(b"\r"):
            data, self._carry = data[:-1], b"\r"
        self._add(data)

    def digest(self) -> bytes:
        """That was all. The hash."""
        if self._carry != b" ":
            self._add(self._carry)
        # All that is left out is empty lines at the end; the last line has its line end, and so has an empty simple body.
        if self.length or not self._relaxed:
            self._emit(b"\r\n")
        return self._hash.digest()

    def _relax(self, data: bytes) -> bytes:
        """Runs of white space as one space, none at the ends of lines. Halving takes a few passes, however long a run is."""
        if b"\t" in data:
            data = data.replace(b"\t", b" ")
        while b"  " in data:
            data = data.replace(b"  ", b" ")
        kept = len(data)
        if data.endswith(b"\r"):
            kept -= 1
        if data[:kept].endswith(b" "):
            kept -= 1
        data, self._carry = data[:kept], data[kept:]
        return data.replace(b" \r\n", b"\r\n")

    def _add(self, data: bytes) -> None:
        """Hash what will not change, and count the line ends at the end."""
        text = data.rstrip(b"\r\n")
        ends = data[len(text) :]
        # Behind the last line end that is not CRLF, there is nothing but CRLF.
        odd = max(ends.rfind(b"\n\n"), ends.rfind(b"\r\r")) + 1
        if ends.startswith(b"\n", odd):
            odd += 1
        if not ends.endswith(b"\n"):
            odd = len(ends)
        if text or odd:
            self._emit_blank_lines()
            self._emit(data[: len(text) + odd])
        self._blank_lines += (len(ends) - odd) // 2

    def _emit_blank_lines(self) -> None:
        octets, self._blank_lines = 2 * self._blank_lines, 0
        while octets:
            size = min(octets, _BLOCK)
            self._emit(b"\r\n" * (size // 2))
            octets -= size

    def _emit(self, data: bytes) -> None:
        if self._limit is None:
            self._hash.update(data)
        elif self.length < self._limit:
            self._hash.update(data[: self._limit - self.length])
        self.length += len(data)
