"""Bodies in the database: read and written in chunk rows, never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from koukan.errors import BodyAborted, StoreError
from koukan.model import Body, CompleteBody
from koukan.storage.database import Database
from koukan.storage.statement import Statement
from koukan.storage.store import BlobRef

#: bytes of a chunk row: a 20 MB body is 80 rows, and a reader holds one or two of them
CHUNK_ROW = 256 * 1024
#: bodies up to this size are in memory anyway; they are kept there once read, and travel in the shared commit
SMALL_BODY = 64 * 1024
#: rows of a large body written in one transaction
_ROWS_PER_COMMIT = 4
#: large bodies being written at a time, each with a megabyte in memory
_LARGE_AT_A_TIME = 2

# A small upload makes a small row, and rows are not joined afterwards: the window bounds the bytes, whatever their number.
_READ = Statement(
    "SELECT start, data FROM blob_chunks WHERE blob_id = $1 AND start >= $2 AND start < $3 ORDER BY start"
)
_LAST_BEFORE = Statement("SELECT coalesce(max(start), 0) AS start FROM blob_chunks WHERE blob_id = $1 AND start <= $2")

_STAGE = Statement("INSERT INTO blobs (id, size, length, staged, updated) VALUES ($1, 0, NULL, true, {now})")
_STAGED = Statement("UPDATE blobs SET size = $2, length = $2, updated = {now} WHERE id = $1")
INSERT_CHUNKS = Statement("INSERT INTO blob_chunks (blob_id, start, data) {columns}", columns="bigint, bigint, bytea")

#: a row of blob_chunks: blob, offset, bytes
Chunk = tuple[int, int, bytes]


class StoredBody(CompleteBody):
    """A complete blob of the database."""

    def __init__(self, database: Database, ref: BlobRef) -> None:
        self.ref = ref
        self._database = database
        self._content: bytes | None = None

    @property
    def length(self) -> int:
        return self.ref.length

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        if self.length > SMALL_BODY:
            async for data in self._read(start):
                yield data
            return
        if self._content is None:
            self._content = b"".join([data async for data in self._read(0)])  # every filter of a chain reads it again
        if start < self.length:
            yield self._content[start:] if start else self._content

    async def _read(self, start: int) -> AsyncIterator[bytes]:
        number = self.ref.blob_id
        try:
            offset = start and int((await self._database.fetch(_LAST_BEFORE, number, start))[0]["start"])
            while offset < self.length:
                rows = await self._database.fetch(_READ, number, offset, offset + CHUNK_ROW)
                if not rows or rows[0]["start"] != offset:
                    raise BodyAborted(f"the stored message has no byte {offset}: it has been deleted")
                for row in rows:
                    data = row["data"]
                    offset += len(data)
                    if offset > start:
                        yield data[start - offset :] if offset - len(data) < start else data
        except StoreError as error:
            raise BodyAborted(f"the stored message cannot be read: {error}") from error


class Stager:
    """Stores large bodies ahead of the transactions that refer to them, in commits of their own.

    Whatever happens in between leaves a staged blob behind, which the collection deletes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free = asyncio.Semaphore(_LARGE_AT_A_TIME)

    async def store(self, number: int, body: Body) -> BlobRef:
        """Store a complete body as blob `number`. Raises StoreError, and BodyAborted when the body cannot be read."""
        async with self._free:
            await self._database.fetch(_STAGE, number)
            length = 0
            pending = bytearray()
            # Bytes are read outside of the transactions that write them: they may come from this database themselves.
            async for data in body.chunks():
                pending += data
                if len(pending) >= CHUNK_ROW * _ROWS_PER_COMMIT:
                    length += await self._write(number, length, pending)
            length += await self._write(number, length, pending)
            await self._database.fetch(_STAGED, number, length)
        return BlobRef(number, length)

    async def _write(self, number: int, offset: int, pending: bytearray) -> int:
        size = len(pending)
        rows = list(chunk_rows(number, offset, bytes(pending)))
        pending.clear()
        if rows:
            await self._database.transaction(lambda connection: connection.write_rows(INSERT_CHUNKS, rows))
        return size


def chunk_rows(number: int, offset: int, data: bytes) -> Iterator[Chunk]:
    """The rows that add `data` at `offset` of a blob."""
    for start in range(0, len(data), CHUNK_ROW):
        yield number, offset + start, data[start : start + CHUNK_ROW]
