"""The header block of a message, taken apart without more work than a look-up needs (RFC 5322 §2.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from koukan.errors import InvalidMessage
from koukan.message.address import Address
from koukan.message.mailboxes import parse_mailboxes
from koukan.model import Body

#: bytes in which a header block must end: ten times what the largest honest ones take, and what existing policies know
MAX_HEADER_BYTES = 1024 * 1024
#: fields of one message: a hundred times what mail has, and few enough to be looked at in a fraction of a second
MAX_FIELDS = 10_000

_FIELD_NAME = bytes(range(0x21, 0x7F)).replace(b":", b"")


class Field(NamedTuple):
    """One header field. `name` is as written; `value` is what follows the colon, folding included, without its line end."""

    name: str
    value: bytes
    #: white space before the colon, which obsolete syntax has (RFC 5322 §4.5.8)
    gap: bytes = b""

    @property
    def text(self) -> str:
        """The value unfolded: without line ends and without white space around it; U+FFFD for what is no UTF-8."""
        return self._unfolded().decode("utf-8", "replace").strip(" \t")

    @property
    def octet_text(self) -> str:
        """The same with a lone surrogate for each octet that is no UTF-8 (PEP 383), for who knows its charset."""
        return self._unfolded().decode("utf-8", "surrogateescape").strip(" \t")

    def _unfolded(self) -> bytes:
        value = self.value
        return value.replace(b"\r", b"").replace(b"\n", b"") if b"\n" in value or b"\r" in value else value


class Headers:
    """The fields of a header block in their order. Names compare without case."""

    def __init__(self, fields: list[Field], *, complete: bool = True, defect: str | None = None) -> None:
        self.fields = fields
        #: the blank line that ends the block was seen, or the message is all headers
        self.complete = complete
        #: a line in the block that is no header
        self.defect = defect
        self._by_name: dict[str, list[Field]] = {}
        for field in fields:
            self._by_name.setdefault(field.name.lower(), []).append(field)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def all(self, name: str) -> list[Field]:
        """Every field of that name, top to bottom."""
        return self._by_name.get(name.lower(), [])

    def count(self, name: str) -> int:
        return len(self.all(name))

    def get(self, name: str) -> str | None:
        """The text of the first field of that name."""
        found = self.all(name)
        return found[0].text if found else None


def parse_headers(block: bytes) -> tuple[Headers, int]:
    """The fields at the start of `block`, and the offset of the first line that is neither header nor blank line.

    Line ends may be CRLF, LF or CR, as in Python's email package. Raises InvalidMessage above MAX_FIELDS.
    """
    fields: list[tuple[bytes, int, int]] = []  # name with white space behind it, begin and end of the value
    offset = 0
    defect = None
    for line in block.splitlines(keepends=True):
        end = offset + len(line)
        first = line[:1]
        if first in b" \t":
            if fields:
                fields[-1] = (*fields[-1][:2], end)
            else:
                defect = "the first line is a continuation"
        elif first in b"\r\n":
            break
        else:
            name, colon, _ = line.partition(b":")
            bare = name.rstrip(b" \t")
            if colon and not bare.translate(None, _FIELD_NAME):
                fields.append((name, offset + len(name) + 1, end))
                if len(fields) > MAX_FIELDS:
                    raise InvalidMessage(f"more than {MAX_FIELDS} header fields")
                if bare != name or not bare:
                    defect = "white space before a colon" if bare else "a field without a name"
            elif offset or not line.startswith(b"From "):  # the separator line of an mbox file
                defect = "a line is no header"
                break
        offset = end
    return Headers([_field(name, block[start:end]) for name, start, end in fields], defect=defect), offset


def _field(name: bytes, value: bytes) -> Field:
    bare = name.rstrip(b" \t")
    return Field(bare.decode("ascii"), value.rstrip(b"\r\n"), name[len(bare) :])


def end_of_headers(data: bytes | bytearray, start: int = 0) -> int:
    """The offset behind the blank line that ends the header block at `start`; -1 when it is not there (yet)."""
    end = -1
    limit = len(data)
    for blank_line in (b"\r\n\r\n", b"\n\n", b"\r\r", b"\n\r\n"):
        at = data.find(blank_line, start, limit)
        if at >= 0:
            end = at + len(blank_line)
            limit = end - 1
    return end


async def read_head(chunks: AsyncIterator[bytes]) -> tuple[bytes, bytes]:
    """The header block of a message with the blank line behind it, and what has been read of the body.

    Raises InvalidMessage for a block of more than MAX_HEADER_BYTES.
    """
    data, end = await _gather_head(chunks)
    if end is None:
        raise InvalidMessage(f"header fields of more than {MAX_HEADER_BYTES} octets")
    return data[:end], data[end:]


async def read_headers(body: Body) -> Headers:
    """The header block of a message: its first MAX_HEADER_BYTES are looked at. Raises InvalidMessage above MAX_FIELDS."""
    data, end = await _gather_head(body.chunks())
    headers, _ = parse_headers(data[: MAX_HEADER_BYTES if end is None else end])
    headers.complete = end is not None
    return headers


async def _gather_head(chunks: AsyncIterator[bytes]) -> tuple[bytes, int | None]:
    """The first bytes of a message and where its header block ends in them; None when it is too large."""
    data = bytearray()
    async for chunk in chunks:
        searched = max(0, len(data) - 3)
        data += chunk
        if data.startswith((b"\r", b"\n")) and data != b"\r":  # which may be half of a line end
            return bytes(data), 2 if data.startswith(b"\r\n") else 1
        end = end_of_headers(data, searched)
        if end >= 0:
            return bytes(data), end
        if len(data) > MAX_HEADER_BYTES:
            return bytes(data), None
    return bytes(data), len(data)


def header_from(headers: Headers) -> list[Address]:
    """The mailboxes of the From field (RFC 5322 §3.6.2) that are addresses; empty without one, or with several fields."""
    fields = headers.all("from")
    return [box.address for box in parse_mailboxes(fields[0].text).mailboxes if box.address] if len(fields) == 1 else []
