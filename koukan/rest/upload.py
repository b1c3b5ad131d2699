"""Uploads: whole, in ranged chunks, or finalised afterwards (rest-api.md §6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from koukan.rest.blobs import BlobWriter, is_complete
from koukan.rest.problems import BadRequest, NotFound, RangeRefused, TooLarge

#: digits of a number in a header; Python makes an error of its own of numbers with thousands of them
_DIGITS = 18
_NUMBER = rf"\d{{1,{_DIGITS}}}"
_RANGE = re.compile(rf"bytes\s+({_NUMBER})-({_NUMBER})/({_NUMBER}|\*)")


@dataclass(frozen=True, slots=True)
class Upload:
    """What the headers of a PUT announce."""

    first: int = 0
    #: final length of the blob when known
    total: int | None = None
    #: bytes in this request when announced
    length: int | None = None
    #: this request ends the blob
    ends: bool = True
    #: style C: no bytes, only the final length
    finalize: bool = False

    @property
    def unsized(self) -> bool:
        """A whole blob whose length shows at its end: chunked transfer encoding."""
        return self.length is None


def parse_upload(headers: Mapping[str, str]) -> Upload:
    """Raises BadRequest for ranges that make no sense."""
    length = _bytes("content-length", headers.get("content-length"))
    finalize = headers.get("x-finalize-blob-length")
    if finalize is not None:
        total = _bytes("x-finalize-blob-length", finalize)
        if length != 0:
            raise BadRequest("x-finalize-blob-length goes with content-length: 0")
        return Upload(total=total, length=0, finalize=True)
    given = headers.get("content-range")
    if given is None or length is None:  # a chunked request is always the whole blob
        return Upload(total=length, length=length)
    found = _RANGE.fullmatch(given.strip())
    if found is None:
        raise BadRequest("bad range: content-range must be `bytes FIRST-LAST/TOTAL` or `bytes FIRST-LAST/*`")
    first, last = int(found[1]), int(found[2])
    if last - first + 1 != length:
        raise BadRequest(f"bad range: {given!r} is {last - first + 1} bytes, content-length is {length}")
    total = None if found[3] == "*" else int(found[3])
    if total is not None and last >= total:
        raise BadRequest(f"bad range: {given!r} ends beyond its total")
    return Upload(first, total, length, ends=total is not None and last == total - 1)


async def receive(writer: BlobWriter, upload: Upload, chunks: AsyncIterator[bytes], limit: int) -> None:
    """Store what a request brings. Raises RangeRefused with the state the client should go on from."""
    if upload.finalize:
        await _finalize(writer, upload)
        return
    if is_complete(writer):
        await _repeated(writer, upload, chunks)
        return
    _admit(writer, upload, limit)
    # One chunk is held back, so that the last one can complete the blob in the same write.
    position, held = upload.first, b""
    async for chunk in chunks:
        if held:
            position = await _store(writer, upload, position, held, last=False)
        held = chunk
        if position + len(held) > limit:
            raise TooLarge(f"the message is larger than {limit} bytes")
    await _store(writer, upload, position, held, last=upload.ends)


def content_range(writer: BlobWriter) -> str | None:
    """The header that tells what is stored; a range cannot say that it is nothing."""
    if writer.size == 0:
        return None
    return f"bytes 0-{writer.size - 1}/{'*' if writer.length is None else writer.length}"


async def _repeated(writer: BlobWriter, upload: Upload, chunks: AsyncIterator[bytes]) -> None:
    """An upload of what is there: its client did not hear the answer. Raises RangeRefused for anything else."""
    end, total = upload.first, None if upload.unsized else upload.total
    if total in (None, writer.length):
        async for chunk in chunks:
            end += len(chunk)
            if end > writer.size:
                break
    if total not in (None, writer.length) or end > writer.size or (upload.ends and end != writer.size):
        raise _refused(writer, f"the blob is complete, it has {writer.length} bytes")


def _admit(writer: BlobWriter, upload: Upload, limit: int) -> None:
    """Refuse what the headers alone show to be wrong."""
    if upload.first > writer.size:
        if writer.size == 0:
            raise NotFound("nothing of this body has been uploaded; begin at 0")
        raise _refused(writer, "there is a gap before this chunk")
    if writer.length is not None and upload.total != writer.length and not upload.unsized:
        raise _refused(writer, "the total differs from the one declared before")
    if upload.total is not None and upload.total < writer.size:
        raise _refused(writer, "more than this total has been uploaded")
    if upload.first < writer.size and not writer.overlap_allowed:
        raise _refused(writer, "this offset has been uploaded")
    if max(upload.total or 0, upload.first + (upload.length or 0)) > limit:
        raise TooLarge(f"the message is larger than {limit} bytes")


async def _store(writer: BlobWriter, upload: Upload, position: int, data: bytes, *, last: bool) -> int:
    """Store bytes of this request that belong at `position`; answers where they end.

    A client that tries again does so while its first request may still be under way: each piece is looked at for itself.
    """
    end = position + len(data)
    async with writer.lock:
        _fit(writer, position, end, last=last)
        complete = writer.size == writer.length
        fresh = data[writer.size - position :]
        if not complete and (fresh or last):
            total = writer.length if upload.unsized else upload.total
            await writer.append(fresh, total=total, last=last)
        if writer.size < end:
            raise _refused(writer, "another upload came in between")
    return end


def _fit(writer: BlobWriter, position: int, end: int, *, last: bool) -> None:
    """Refuse bytes that do not go with what is stored by now."""
    if position < writer.size and not writer.overlap_allowed:
        raise _refused(writer, "this offset has been uploaded")
    if writer.length is not None and (end > writer.length or (last and end != writer.length)):
        raise _refused(writer, f"the blob has {writer.length} bytes")
    if last and end < writer.size:
        raise _refused(writer, "more than this has been uploaded")


async def _finalize(writer: BlobWriter, upload: Upload) -> None:
    async with writer.lock:
        if upload.total != writer.size or writer.length not in (None, upload.total):
            raise _refused(writer, f"x-finalize-blob-length must be what is stored, {writer.size}")
        if writer.length is None:
            await writer.append(b"", total=upload.total, last=True)


def _refused(writer: BlobWriter, reason: str) -> RangeRefused:
    known = content_range(writer)
    return RangeRefused(reason, {} if known is None else {"content-range": known})


def header_number(name: str, value: str, what: str) -> int:
    """The number in a header; `what` says in an error what it should be. Raises BadRequest."""
    if not value.strip().isascii() or not value.strip().isdigit() or len(value) > _DIGITS:
        raise BadRequest(f"{name} must be {what}, got {value[:100]!r}")
    return int(value)


def _bytes(name: str, value: str | None) -> int | None:
    return None if value is None else header_number(name, value, "a number of bytes")
