"""Garbage collection: finished transactions, uploads that nobody finished, and blobs that nobody refers to any more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from koukan.storage.database import Connection, Database
from koukan.storage.rows import dump_rows
from koukan.storage.statement import Statement

#: seconds after which a staged blob is garbage: the commit that refers to it comes right after it, or never
STAGED_TTL = 3600.0
#: key of PostgreSQL's advisory lock. One process collects at a time: two that delete the last two references to a blob at once
#: would each leave the blob to the other.
_LOCK = 0x6B6F756B616E6763


async def collect(database: Database, ttl: float, limit: int) -> int:
    """Delete up to `limit` transactions that have been over, or incomplete, for `ttl` seconds. Answers how many."""
    return await database.transaction(partial(_collect, ttl=ttl, limit=limit))


async def _collect(connection: Connection, ttl: float, limit: int) -> int:
    if not await connection.try_lock(_LOCK):
        return 0
    await connection.fetch(_DELETE_STAGED, STAGED_TTL, limit)
    expired = [row["id"] for row in await connection.fetch(_FINAL, ttl, limit)]
    if len(expired) < limit:
        expired += [row["id"] for row in await connection.fetch(_INCOMPLETE, ttl, limit - len(expired))]
    if expired:
        await _delete(connection, expired)
    return len(expired)


async def _delete(connection: Connection, transactions: Sequence[int]) -> None:
    numbers = dump_rows([{"id": number} for number in transactions])
    refs = await connection.fetch(_DELETE_REFS, numbers)
    for statement in (_DELETE_QUEUE, _DELETE_ATTEMPTS, _DELETE_TRANSACTIONS):
        await connection.fetch(statement, numbers)
    if refs:
        blobs = dump_rows([{"id": number} for number in {row["blob_id"] for row in refs}])
        # Locked first: from then on nobody can refer to them, and the next statement sees whoever did.
        await connection.fetch(_LOCK_BLOBS, blobs)
        await connection.fetch(_DELETE_BLOBS, blobs)


_FINAL = Statement(
    """
    SELECT id FROM transactions WHERE final_reason IS NOT NULL AND updated < {now} - $1
    ORDER BY updated LIMIT $2 {skip_locked}
    """
)
# Both rows are locked, so that no upload completes it, and nobody claims it, in between.
_INCOMPLETE = Statement(
    """
    SELECT id FROM queue JOIN transactions ON id = tx_id
    WHERE session_id IS NULL AND held IS NULL AND due_at IS NULL AND updated < {now} - $1
    LIMIT $2 {skip_locked}
    """
)
_DELETE_REFS = Statement(
    "DELETE FROM blob_refs WHERE tx_id IN (SELECT id FROM {rows}) RETURNING blob_id", rows="id bigint"
)
_DELETE_QUEUE = Statement("DELETE FROM queue WHERE tx_id IN (SELECT id FROM {rows})", rows="id bigint")
_DELETE_ATTEMPTS = Statement("DELETE FROM attempts WHERE tx_id IN (SELECT id FROM {rows})", rows="id bigint")
_DELETE_TRANSACTIONS = Statement("DELETE FROM transactions WHERE id IN (SELECT id FROM {rows})", rows="id bigint")
_LOCK_BLOBS = Statement(
    "SELECT id FROM blobs WHERE id IN (SELECT id FROM {rows}) ORDER BY id {for_update}", rows="id bigint"
)
_DELETE_BLOBS = Statement(
    """
    DELETE FROM blobs
    WHERE id IN (SELECT id FROM {rows}) AND NOT EXISTS (SELECT 1 FROM blob_refs f WHERE f.blob_id = blobs.id)
    """,
    rows="id bigint",
)
_DELETE_STAGED = Statement(
    """
    DELETE FROM blobs WHERE id IN (
        SELECT id FROM blobs WHERE staged AND updated < {now} - $1 LIMIT $2 {skip_locked})
    """
)
