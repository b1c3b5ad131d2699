"""Leases: due work is claimed in batches, and given back in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from koukan import clock
from koukan.storage.database import Connection, Database, Row
from koukan.storage.fairness import Due, Shares, choose, fill
from koukan.storage.loading import LOAD_BY_NUMBER
from koukan.storage.reaping import free_some
from koukan.storage.rows import dump_rows, load_transaction
from koukan.storage.statement import Statement
from koukan.storage.store import StoredTransaction
from koukan.storage.writes import Insert

logger = logging.getLogger("koukan.storage")

UNREADABLE = "quarantined: this version of Koukan cannot read it"
#: due transactions looked at for each one claimed, so that a batch is not all for one destination
CANDIDATES = 4
#: destinations looked at for mail that waits behind the backlog of one that has its share; the next look goes on after them
DESTINATIONS = 200
#: seconds for which one that took its process down keeps the others of its kind waiting: what kills a process does so while it
#: is read and sent, and a next hop that is slower than this is no reason to keep a hundred innocents for hours
SUSPECT_PATIENCE = 5.0


class Held(NamedTuple):
    """A lease of this process: row number, and the attempt that it is for."""

    number: int
    attempt: int
    #: when the attempt at what took a process down before began
    suspect_since: float | None = None


class Leases:
    """What this process holds."""

    def __init__(self, database: Database, session_id: int, time: Callable[[], float] = clock.now) -> None:
        self._database = database
        self._session_id = session_id
        self._time = time
        #: what this process holds, by public id
        self._held: dict[str, Held] = {}
        #: between the commit of a claim and our knowing of it, nobody may look for leases that nobody knows of
        self._claiming = asyncio.Lock()
        #: where the look at destinations goes on
        self._next_destination = ""

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

    # --- claiming ------------------------------------------------------------------------------------------------------

    async def claim(self, limit: int, running: Mapping[str, int] | None = None) -> list[StoredTransaction]:
        """Lease up to `limit` due transactions, the longest due first; see Store.claim. Raises StoreError."""
        async with self._claiming:
            claimed = await self._database.transaction(partial(self._claim, limit=limit, running=running))
            now = self._time()
            for number, found, suspect in claimed:
                self._held[found.id] = Held(number, found.attempts, now if suspect else None)
        return [transaction for _, transaction, _ in claimed]

    async def _claim(
        self, connection: Connection, limit: int, running: Mapping[str, int] | None
    ) -> list[tuple[int, StoredTransaction, bool]]:
        chosen = await self._choose(connection, limit, running)
        if not chosen:
            return []
        numbers = dump_rows([{"id": item.number} for item in chosen])
        leased = {row["tx_id"]: row for row in await connection.fetch(_LEASE, numbers, self._session_id)}
        if not leased:
            return []
        rows = await connection.fetch(LOAD_BY_NUMBER, dump_rows([{"id": number} for number in leased]))
        claimed = [(row["id"], await self._readable(connection, row)) for row in rows]
        readable = [(n, found, leased[n]["crashes"] > 0) for n, found in claimed if found is not None]
        return sorted(readable, key=lambda item: float(leased[item[0]]["due_at"]))

    async def _choose(self, connection: Connection, limit: int, running: Mapping[str, int] | None) -> list[Due]:
        shares = Shares(running or {}, limit + sum((running or {}).values()))
        full = dump_rows([{"destination": name} for name in shares.full()])
        rows = await connection.fetch(_LOOK, full, limit * CANDIDATES, int(not self._suspect_under_attempt()))
        due = [Due(row["tx_id"], row["destination"]) for row in rows]
        chosen = choose(due, limit, shares)
        if running is None:
            return fill(chosen, due, limit)
        if len(chosen) < limit and len(due) >= limit * CANDIDATES:
            behind = await self._look_behind(connection, shares)
            chosen += choose([item for item in behind if item not in chosen], limit - len(chosen), shares)
        return chosen

    async def _look_behind(self, connection: Connection, shares: Shares) -> list[Due]:
        """The longest due of destinations that have room: mail that a backlog of others hides.

        It goes through the destinations, not through their mail, and never through more than DESTINATIONS of them.
        """
        rows = await connection.fetch(_DESTINATIONS, self._next_destination, DESTINATIONS)
        names = [row["destination"] for row in rows if row["destination"] is not None]
        self._next_destination = names[-1] if len(names) == DESTINATIONS else ""
        waiting = [{"destination": name} for name in names if shares.has_room(name)]
        found = await connection.fetch(_LONGEST_DUE, dump_rows(waiting)) if waiting else ()
        return [Due(row["tx_id"], row["destination"]) for row in found]

    def _suspect_under_attempt(self) -> bool:
        begun = [held.suspect_since for held in self._held.values() if held.suspect_since is not None]
        return bool(begun) and self._time() - max(begun) < SUSPECT_PATIENCE

    async def _readable(self, connection: Connection, row: Row) -> StoredTransaction | None:
        """A claimed transaction; one that cannot be read must not keep the others from being claimed, now and for ever."""
        try:
            return load_transaction(row, self._session_id)
        except (ValueError, TypeError, LookupError, AttributeError):
            logger.exception("%s: cannot be read", row["rest_id"])
            await connection.fetch(_HOLD, row["id"], UNREADABLE)
            return None

    # --- leases without a holder ---------------------------------------------------------------------------------------

    async def release_strays(self) -> None:
        """Free leases in our name that nobody here knows of: a commit went through, but its answer got lost."""
        async with self._claiming:
            rows = await self._database.fetch(_OURS, self._session_id)
            known = {held.number for held in self._held.values()}
            strays = [row["tx_id"] for row in rows if row["tx_id"] not in known]
            if strays:
                logger.warning("%d leases that nobody works on are free again", len(strays))
                await self._database.transaction(partial(free_some, numbers=strays, session_id=self._session_id))


# Candidates are locked, so that several processes claim different ones at the same time. Those that took a process down are
# looked at apart: who is tried beside one that does it again would be suspected with it, again and again.
_LOOK = Statement(
    """
    WITH fresh AS MATERIALIZED (
        SELECT tx_id, destination, due_at FROM queue
        WHERE session_id IS NULL AND held IS NULL AND crashes = 0 AND due_at <= {now}
        ORDER BY due_at LIMIT $2 {skip_locked}
    ), suspect AS MATERIALIZED (
        SELECT tx_id, destination, due_at FROM queue
        WHERE session_id IS NULL AND held IS NULL AND crashes > 0 AND due_at <= {now}
            AND destination NOT IN (SELECT destination FROM {rows})
        ORDER BY due_at LIMIT $3 {skip_locked}
    )
    SELECT tx_id, destination, due_at FROM suspect UNION ALL SELECT tx_id, destination, due_at FROM fresh ORDER BY due_at
    """,
    rows="destination text",
)
_DESTINATIONS = Statement(
    """
    WITH RECURSIVE waiting(destination, place) AS (
        SELECT (SELECT q.destination FROM queue q
                WHERE q.session_id IS NULL AND q.held IS NULL AND q.destination >= $1
                ORDER BY q.destination LIMIT 1), 1
        UNION ALL
        SELECT (SELECT q.destination FROM queue q
                WHERE q.session_id IS NULL AND q.held IS NULL AND q.destination > w.destination
                ORDER BY q.destination LIMIT 1), w.place + 1
        FROM waiting w WHERE w.destination IS NOT NULL AND w.place < $2
    )
    SELECT destination FROM waiting ORDER BY place
    """
)
# The order is that of an index, so that no plan goes through a backlog.
_LONGEST_DUE = Statement(
    """
    WITH first AS MATERIALIZED (
        SELECT (SELECT q.tx_id FROM queue q
                WHERE q.session_id IS NULL AND q.held IS NULL AND q.crashes = 0 AND q.due_at IS NOT NULL
                    AND q.destination >= r.destination
                ORDER BY q.destination, q.due_at LIMIT 1) AS number
        FROM {rows}
    )
    SELECT tx_id, destination FROM queue WHERE tx_id IN (SELECT number FROM first) AND session_id IS NULL AND due_at <= {now}
    ORDER BY due_at {skip_locked}
    """,
    rows="destination text",
)
# Nobody else can have taken them: they are locked since they were looked at.
_LEASE = Statement(
    """
    UPDATE queue SET session_id = $2, attempt = attempt + 1
    WHERE tx_id IN (SELECT id FROM {rows}) AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = $2 AND s.live)
    RETURNING tx_id, due_at, crashes
    """,
    rows="id bigint",
)
_HOLD = Statement("UPDATE queue SET session_id = NULL, held = $2 WHERE tx_id = $1")
_OURS = Statement("SELECT tx_id FROM queue WHERE session_id = $1")
