"""Blobs of a transaction as its client sees them: how far their uploads have come, and where bytes go."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from koukan.rest.problems import Conflict

#: the blob id of the message itself
BODY = "body"


def is_complete(blob: BlobView) -> bool:
    """All of a blob has been uploaded."""
    return blob.length is not None and blob.size == blob.length


class BlobView(Protocol):
    """How far the upload of a blob has come."""

    @property
    def size(self) -> int:
        """Bytes stored."""
        ...

    @property
    def length(self) -> int | None:
        """Final length once known."""
        ...


class BlobSize(NamedTuple):
    """A blob whose bytes are elsewhere."""

    size: int
    length: int | None


class BlobWriter(BlobView, Protocol):
    """The receiving end of one blob's upload."""

    #: re-sent bytes are skipped; False: they are refused (gateway)
    overlap_allowed: bool
    #: held while bytes are added, since two requests may bring the same ones
    lock: asyncio.Lock

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        """Store the next bytes; `total` is the final length when declared, `last` completes the blob."""
        ...

    def heard(self) -> None:
        """Bytes are on their way: the client lives, however long a piece takes it."""
        ...

    def interrupted(self) -> None:
        """The request broke off; the client may or may not come back."""
        ...


class FinishedBlob(BlobWriter):
    """A blob that is complete: it takes nothing but what is there already (upload.receive)."""

    overlap_allowed = True

    def __init__(self, blob: BlobView) -> None:
        self._blob = blob
        self.lock = asyncio.Lock()

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def length(self) -> int | None:
        return self._blob.length

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        raise Conflict("the blob is complete")

    def heard(self) -> None:
        """Nobody waits for it."""

    def interrupted(self) -> None:
        """Nothing is lost."""
