"""Leases: due work is claimed in batches, and what a process held is free when the process is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from koukan.storage.database import Connection, Database, Row
from koukan.storage.loading import LOAD_BY_NUMBER
from koukan.storage.rows import dump_rows, load_transaction
from koukan.storage.sessions import DEAD_AFTER
from koukan.storage.statement import Statement
from koukan.storage.store import StoredTransaction
from koukan.storage.writes import Insert

logger = logging.getLogger("koukan.storage")

#: attempts in a row that ended with their process before a transaction is held for a human: once or twice is chance (it
#: was in flight when something else went wrong), three times is the message itself
CRASH_LIMIT = 3
QUARANTINED = f"quarantined: its last {CRASH_LIMIT} attempts ended with a crash of the router"
UNREADABLE = "quarantined: this version of Koukan cannot read it"
#: due transactions looked at for each one claimed, so that a batch is not all for one destination
CANDIDATES = 4
#: part of a batch that one destination gets while others are waiting
DESTINATION_SHARE = 0.5
#: how far versions jump when a lease changes hands other than by its holder, who has shown some to clients and is gone
_VERSION_LEAP = 1 << 16


class Held(NamedTuple):
    """A lease of this process: row number, and the attempt that it is for."""

    number: int
    attempt: int


class Leases:
    """What this process holds, and what nobody does."""

    def __init__(self, database: Database, session_id: int, interval: float) -> None:
        self._database = database
        self._session_id = session_id
        self._dead_after = DEAD_AFTER * interval
        #: what this process holds, by public id
        self._held: dict[str, Held] = {}
        #: between the commit of a claim and our knowing of it, nobody may look for leases that nobody knows of
        self._claiming = asyncio.Lock()

    def number(self, tx_id: str) -> int | None:
        """The row number of a transaction that this process holds."""
        held = self._held.get(tx_id)
        return None if held is None else held.number

    def hold(self, insert: Insert) -> None:
        """Remember what is about to be inserted with a lease."""
        leased = {row["tx_id"]: row["attempt"] for row in insert.queue if row["session_id"] is not None}
        for row in insert.transactions:
            if row["id"] in leased:
                self._held[row["rest_id"]] = Held(row["id"], leased[row["id"]])

    def forget(self, tx_id: str, attempt: int) -> None:
        """Remember no longer: the lease has been given back, or was never obtained.

        The lease of another attempt stays: an outcome may be written twice, and the transaction claimed again in between.
        """
        held = self._held.get(tx_id)
        if held is not None and held.attempt == attempt:
            del self._held[tx_id]

    async def claim(self, limit: int) -> list[StoredTransaction]:
        """Lease up to `limit` due transactions, the longest due first. Raises StoreError."""
        async with self._claiming:
            claimed = await self._database.transaction(partial(self._claim, limit=limit))
            self._held |= {found.id: Held(number, found.attempts) for number, found in claimed}
        return [transaction for _, transaction in claimed]

    async def _claim(self, connection: Connection, limit: int) -> list[tuple[int, StoredTransaction]]:
        share = max(1, int(limit * DESTINATION_SHARE))
        due = await connection.fetch(_CLAIM, self._session_id, limit * CANDIDATES, share, limit)
        if not due:
            return []
        order = {row["tx_id"]: row["due_at"] for row in due}
        rows = await connection.fetch(LOAD_BY_NUMBER, dump_rows([{"id": number} for number in order]))
        claimed = [(row["id"], await self._readable(connection, row)) for row in rows]
        readable = [(number, transaction) for number, transaction in claimed if transaction is not None]
        return sorted(readable, key=lambda item: order[item[0]])

    async def _readable(self, connection: Connection, row: Row) -> StoredTransaction | None:
        """A claimed transaction; one that cannot be read must not keep the others from being claimed, now and for ever."""
        try:
            return load_transaction(row, self._session_id)
        except (ValueError, TypeError, LookupError, AttributeError):
            logger.exception("%s: cannot be read", row["rest_id"])
            await connection.fetch(_HOLD, row["id"], UNREADABLE)
            return None

    # --- leases without a holder ---------------------------------------------------------------------------------------

    async def reap(self) -> None:
        """Declare silent sessions dead, and free what sessions hold that are not alive. Raises StoreError."""
        for row in await self._database.fetch(_DECLARE_DEAD, self._dead_after):
            logger.warning("session %d of %s was silent for too long, its leases are free", row["id"], row["uri"])
        # Not only what died just now: a process that was paused in the middle of a commit may finish it after its death.
        dead = [row["session_id"] for row in await self._database.fetch(_HOLDERS_NOT_ALIVE)]
        if dead:
            await self._database.transaction(partial(_free, sessions=dead, crashes=1))

    async def succeed(self, *, everybody: bool) -> None:
        """Declare our predecessors dead: sessions at our own address, where we are now, or all of them. Raises StoreError."""
        for row in await self._database.fetch(_DECLARE_PREDECESSORS_DEAD, self._session_id, everybody):
            logger.warning("session %d of %s did not end in good order, its leases are free", row["id"], row["uri"])
        await self.reap()

    async def release_strays(self) -> None:
        """Free leases in our name that nobody here knows of: a commit went through, but its answer got lost."""
        async with self._claiming:
            rows = await self._database.fetch(_OURS, self._session_id)
            known = {held.number for held in self._held.values()}
            strays = [{"id": row["tx_id"]} for row in rows if row["tx_id"] not in known]
            if strays:
                logger.warning("%d leases that nobody works on are free again", len(strays))
                await self._database.fetch(_FREE_SOME, dump_rows(strays), self._session_id)

    async def end_session(self) -> None:
        """End our session: its leases are free at once, and this is no crash. Raises StoreError."""
        await self._database.transaction(partial(_end, session_id=self._session_id))


async def _end(connection: Connection, session_id: int) -> None:
    await connection.fetch(_END, session_id)
    await _free(connection, [session_id], crashes=0)


async def _free(connection: Connection, sessions: Sequence[int], crashes: int) -> None:
    """Free all leases of sessions that will not live again."""
    holders = dump_rows([{"id": number} for number in sessions])
    freed = await connection.fetch(_FREE, holders, crashes, CRASH_LIMIT, QUARANTINED)
    if freed:
        logger.info("%d leases of sessions %s are free", len(freed), ", ".join(map(str, sessions)))
        names = await connection.fetch(_LEAP, dump_rows([{"id": row["tx_id"]} for row in freed]), _VERSION_LEAP)
        quarantined = {row["tx_id"] for row in freed if row["held"] == QUARANTINED}
        for row in names:
            if row["id"] in quarantined:
                logger.error("%s: %s", row["rest_id"], QUARANTINED)


# Candidates are locked first, so that several processes claim different ones at the same time.
_CLAIM = Statement(
    """
    WITH due AS MATERIALIZED (
        SELECT tx_id, destination, due_at FROM queue
        WHERE session_id IS NULL AND held IS NULL AND due_at <= {now}
        ORDER BY due_at LIMIT $2 {skip_locked}
    ), ranked AS (
        SELECT tx_id, due_at, row_number() OVER (PARTITION BY destination ORDER BY due_at) > $3 AS beyond_share FROM due
    ), chosen AS MATERIALIZED (
        SELECT tx_id FROM ranked ORDER BY beyond_share, due_at LIMIT $4
    )
    UPDATE queue SET session_id = $1, attempt = attempt + 1
    WHERE tx_id IN (SELECT tx_id FROM chosen) AND EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND live)
    RETURNING tx_id, due_at
    """
)
_HOLD = Statement("UPDATE queue SET session_id = NULL, held = $2 WHERE tx_id = $1")
_DECLARE_DEAD = Statement("UPDATE sessions SET live = false WHERE live AND updated < {now} - $1 RETURNING id, uri")
_DECLARE_PREDECESSORS_DEAD = Statement(
    """
    UPDATE sessions SET live = false
    WHERE live AND id < $1 AND ($2 OR uri = (SELECT uri FROM sessions WHERE id = $1))
    RETURNING id, uri
    """
)
_END = Statement("UPDATE sessions SET live = false, updated = {now} WHERE id = $1")
_HOLDERS_NOT_ALIVE = Statement(
    """
    SELECT DISTINCT session_id FROM queue
    WHERE session_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = queue.session_id AND s.live)
    """
)
_OURS = Statement("SELECT tx_id FROM queue WHERE session_id = $1")
_FREE = Statement(
    """
    UPDATE queue SET session_id = NULL, due_at = CASE WHEN due_at IS NOT NULL THEN {now} END, crashes = crashes + $2,
        held = CASE WHEN $2 > 0 AND crashes + $2 >= $3 THEN $4 ELSE held END
    WHERE session_id IN (SELECT id FROM {rows})
    RETURNING tx_id, held
    """,
    rows="id integer",
)
_FREE_SOME = Statement(
    """
    UPDATE queue SET session_id = NULL, due_at = CASE WHEN due_at IS NOT NULL THEN {now} END
    WHERE tx_id IN (SELECT id FROM {rows}) AND session_id = $2
    """,
    rows="id bigint",
)
_LEAP = Statement(
    "UPDATE transactions SET version = version + $2 WHERE id IN (SELECT id FROM {rows}) RETURNING id, rest_id",
    rows="id bigint",
)
