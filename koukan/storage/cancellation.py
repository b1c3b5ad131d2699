"""Cancelling what is stored: at once where nobody works on it, else when the lease is given back."""

from __future__ import annotations

from collections.abc import Sequence

from koukan.storage.database import Connection
from koukan.storage.rows import Record, dump_rows
from koukan.storage.statement import Statement
from koukan.storage.store import CANCELLED


async def cancel(connection: Connection, tx_id: str) -> bool:
    """End a transaction that no live session holds. Late writes of a dead one are refused, since its row has left the queue."""
    taken = await connection.fetch(_TAKE, tx_id)
    if taken:
        await _end(connection, [{"id": taken[0]["tx_id"]}])
    return bool(taken)


async def mark(connection: Connection, tx_id: str, session_id: int) -> bool:
    """Remember that a transaction held by that session is over when its lease is given back, or lost. False: it is not held."""
    return bool(await connection.fetch(_MARK, tx_id, session_id))


async def end_marked(connection: Connection, numbers: Sequence[int]) -> None:
    """End marked transactions whose lease is free again."""
    rows: list[Record] = [{"id": number} for number in numbers]
    if rows:
        await connection.fetch(LEAVE_QUEUE, dump_rows(rows))
        await _end(connection, rows)


async def _end(connection: Connection, rows: Sequence[Record]) -> None:
    await connection.fetch(_END, dump_rows(rows), CANCELLED)


LEAVE_QUEUE = Statement("DELETE FROM queue WHERE tx_id IN (SELECT id FROM {rows})", rows="id bigint")
_TAKE = Statement(
    """
    DELETE FROM queue WHERE tx_id = (SELECT id FROM transactions WHERE rest_id = $1)
        AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = queue.session_id AND s.live)
    RETURNING tx_id
    """
)
_MARK = Statement(
    """
    UPDATE queue SET cancelled = true
    WHERE tx_id = (SELECT id FROM transactions WHERE rest_id = $1) AND session_id = $2
    RETURNING tx_id
    """
)
_END = Statement(
    """
    UPDATE transactions SET final_reason = $2, version = version + 1, updated = {now}
    WHERE id IN (SELECT id FROM {rows})
    """,
    rows="id bigint",
)
