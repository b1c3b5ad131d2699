"""Uploads into stored blobs (rest-api.md §6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from koukan.errors import StoreError
from koukan.storage.body import INSERT_CHUNKS, Chunk, chunk_rows
from koukan.storage.database import Connection, Row
from koukan.storage.rows import Record, dump_rows
from koukan.storage.statement import Statement
from koukan.storage.store import BlobState
from koukan.storage.writes import Write


@dataclass(eq=False)
class Append(Write):
    """Bytes at an offset of a blob; `state` is what is stored once it is written."""

    rest_id: str
    name: str
    offset: int
    data: bytes
    #: final length when known
    length: int | None
    #: an upload counts as activity of its transaction at most every so many seconds
    refresh_interval: float
    state: BlobState = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.data)
        self.state = BlobState(0, None)

    async def is_written(self, connection: Connection) -> bool:
        return False  # written twice, it overlaps with itself

    def fresh(self, stored: BlobState) -> bytes | None:
        """What it adds to a blob; None when it does not fit."""
        end = self.offset + len(self.data)
        if stored.complete or self.offset > stored.size:
            return None
        if stored.length is not None and self.length != stored.length:
            return None
        if self.length is not None and max(end, stored.size) > self.length:
            return None
        return self.data[stored.size - self.offset :]


@dataclass(slots=True)
class _Blob:
    """A blob while appends of one batch go through it."""

    number: int
    tx_number: int
    state: BlobState
    #: seconds since something last happened to its transaction
    idle: float


async def append_all(connection: Connection, appends: Sequence[Append]) -> None:
    """Write uploads; those into blobs that do not exist are `refused`."""
    blobs = await _lock_blobs(connection, appends)
    chunks: list[Chunk] = []
    changed: dict[int, _Blob] = {}
    for append in appends:
        blob = blobs.get((append.rest_id, append.name))
        if blob is None:
            append.refused = StoreError(f"{append.rest_id} has no blob {append.name!r}")
        elif _add(append, blob, chunks):
            changed[blob.number] = blob
    if chunks:
        await connection.write_rows(INSERT_CHUNKS, chunks)
    if changed:
        await _update(connection, list(changed.values()), appends[0].refresh_interval)


def _add(append: Append, blob: _Blob, chunks: list[Chunk]) -> bool:
    """Add the rows of an upload; whether it changes the blob."""
    before = blob.state
    fresh = append.fresh(before)
    if fresh is not None:
        chunks.extend(chunk_rows(blob.number, before.size, fresh))
        blob.state = BlobState(before.size + len(fresh), append.length)
    append.state = blob.state
    return blob.state != before


async def _lock_blobs(connection: Connection, appends: Sequence[Append]) -> dict[tuple[str, str], _Blob]:
    wanted = dump_rows([{"rest_id": append.rest_id, "name": append.name} for append in appends])
    return {
        (row["rest_id"], row["name"]): _Blob(
            row["blob_id"], row["tx_id"], BlobState(row["size"], row["length"]), row["idle"]
        )
        for row in await connection.fetch(_LOCK_BLOBS, wanted)
    }


async def _update(connection: Connection, blobs: Sequence[_Blob], refresh_interval: float) -> None:
    rows: list[Record] = [{"id": b.number, "size": b.state.size, "length": b.state.length} for b in blobs]
    await connection.fetch(_UPDATE_BLOBS, dump_rows(rows))
    finished = {blob.tx_number for blob in blobs if blob.state.complete}
    active = {blob.tx_number for blob in blobs if blob.idle >= refresh_interval} - finished
    # Locked first: two uploads that end at once in two processes must each see the other's blob complete.
    locked = await _bulk(connection, _LOCK_QUEUE, finished)
    await _bulk(connection, _MAKE_DUE, finished)
    unleased = finished - {row["tx_id"] for row in locked if row["session_id"] is not None}
    await _bulk(connection, _TOUCH, active | finished - unleased)
    await _bulk(connection, _TOUCH_VERSION, unleased)


async def _bulk(connection: Connection, statement: Statement, numbers: set[int]) -> Sequence[Row]:
    rows: list[Record] = [{"id": number} for number in numbers]
    return await connection.fetch(statement, dump_rows(rows)) if rows else ()


_LOCK_BLOBS = Statement(
    """
    SELECT t.rest_id, f.name, t.id AS tx_id, blobs.id AS blob_id, size, length, {now} - t.updated AS idle
    FROM transactions t JOIN blob_refs f ON f.tx_id = t.id JOIN blobs ON blobs.id = f.blob_id
    WHERE (t.rest_id, f.name) IN (SELECT rest_id, name FROM {rows})
    ORDER BY blobs.id {for_update_of_blobs}
    """,
    rows="rest_id text, name text",
)
_UPDATE_BLOBS = Statement(
    "UPDATE blobs SET size = r.size, length = r.length, updated = {now} FROM {rows} WHERE blobs.id = r.id",
    rows="id bigint, size bigint, length bigint",
)
_LOCK_QUEUE = Statement(
    "SELECT tx_id, session_id FROM queue WHERE tx_id IN (SELECT id FROM {rows}) ORDER BY tx_id {for_update}",
    rows="id bigint",
)
_MAKE_DUE = Statement(
    """
    UPDATE queue SET due_at = CASE WHEN not_before > {now} THEN not_before ELSE {now} END
    WHERE tx_id IN (SELECT id FROM {rows}) AND due_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM blob_refs f JOIN blobs b ON b.id = f.blob_id
        WHERE f.tx_id = queue.tx_id AND (b.length IS NULL OR b.size < b.length))
    """,
    rows="id bigint",
)
_TOUCH = Statement("UPDATE transactions SET updated = {now} WHERE id IN (SELECT id FROM {rows})", rows="id bigint")
# Clients of an unleased transaction see only what is stored; the version tells them that a blob is complete. A leased one's
# version is its holder's to count.
_TOUCH_VERSION = Statement(
    "UPDATE transactions SET updated = {now}, version = version + 1 WHERE id IN (SELECT id FROM {rows})",
    rows="id bigint",
)
