"""Uploads: whole, in ranged chunks, or finalised afterwards (rest-api.md §6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from koukan.rest.problems import BadRequest, NotFound, RangeRefused, TooLarge
from koukan.rest.resource import BlobWriter

_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")


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


def parse_upload(headers: Mapping[str, str]) -> Upload:
    """Raises BadRequest for ranges that make no sense."""
    length = _number("content-length", headers.get("content-length"))
    finalize = headers.get("x-finalize-blob-length")
    if finalize is not None:
        total = _number("x-finalize-blob-length", finalize)
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
    if upload.first > writer.size:
        if writer.size == 0:
            raise NotFound("nothing of this body has been uploaded; begin at 0")
        raise _refused(writer, "there is a gap before this chunk")
    if writer.length is not None and upload.total != writer.length:
        raise _refused(writer, "the total differs from the one declared before")
    skip = writer.size - upload.first
    if skip and not writer.overlap_allowed:
        raise _refused(writer, "this offset has been uploaded")
    if max(upload.total or 0, upload.first + (upload.length or 0)) > limit:
        raise TooLarge(f"the message is larger than {limit} bytes")
    if writer.length is not None and writer.size == writer.length:
        await _drain(writer, skip, chunks)
        return
    await _store(writer, upload, _skipping(chunks, skip), limit)


def content_range(writer: BlobWriter) -> str | None:
    """The header that tells what is stored; a range cannot say that it is nothing."""
    if writer.size == 0:
        return None
    return f"bytes 0-{writer.size - 1}/{'*' if writer.length is None else writer.length}"


async def _store(writer: BlobWriter, upload: Upload, chunks: AsyncIterator[bytes], limit: int) -> None:
    # One chunk is held back, so that the last one can complete the blob in the same write.
    held = b""
    async for chunk in chunks:
        if held:
            await writer.append(held, total=upload.total, last=False)
        held = chunk
        if writer.size + len(held) > limit:
            raise TooLarge(f"the message is larger than {limit} bytes")
    if held or upload.ends:
        await writer.append(held, total=upload.total, last=upload.ends)


async def _drain(writer: BlobWriter, skip: int, chunks: AsyncIterator[bytes]) -> None:
    """The blob is complete: a re-sent part of it is fine, anything more is not."""
    async for chunk in chunks:
        skip -= len(chunk)
        if skip < 0:
            raise _refused(writer, "the blob is complete")


async def _finalize(writer: BlobWriter, upload: Upload) -> None:
    if upload.total != writer.size or writer.length not in (None, upload.total):
        raise _refused(writer, f"x-finalize-blob-length must be what is stored, {writer.size}")
    if writer.length is None:
        await writer.append(b"", total=upload.total, last=True)


async def _skipping(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if skip >= len(chunk):
            skip -= len(chunk)
        else:
            yield chunk[skip:] if skip else chunk
            skip = 0


def _refused(writer: BlobWriter, reason: str) -> RangeRefused:
    known = content_range(writer)
    return RangeRefused(reason, {} if known is None else {"content-range": known})


def _number(name: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not value.strip().isascii() or not value.strip().isdigit():
        raise BadRequest(f"{name} must be a number of bytes, got {value!r}")
    return int(value)
