"""Reaping: sessions that fell silent are declared dead, and what dead sessions held is free."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from koukan import clock
from koukan.errors import StoreError
from koukan.storage.cancellation import end_marked
from koukan.storage.database import Connection, Database, Row
from koukan.storage.rows import dump_rows
from koukan.storage.statement import Statement

logger = logging.getLogger("koukan.storage")

#: heartbeats after which the others take over: twice as many as a process may miss, so that it has stopped by then
DEAD_AFTER = 10
#: heartbeats for which a process must itself have seen another one silent, by its own clock and with a database that answered:
#: when the database's clock is set, or it has been away, the living are heard within one
SEEN_SILENT = 2
#: attempts in a row that ended with their process before a transaction is held for a human: once or twice is chance (it
#: was in flight when something else went wrong), three times is the message itself
CRASH_LIMIT = 3
QUARANTINED = f"quarantined: its last {CRASH_LIMIT} attempts ended with a crash of the router"
#: seconds for which a process that has lost its session tries to end it in order, so that the outage of its database does not
#: count as a crash of what was in flight: failovers and restarts are over by then
PARTING_PATIENCE = 300.0
#: seconds between these tries
PARTING_PAUSE = 1.0
#: how far versions jump when a lease changes hands other than by its holder, who has shown some to clients and is gone
_VERSION_LEAP = 1 << 16


class _Sign(NamedTuple):
    """The last sign of life of a session: the database's time in it, and when we first saw it by our own clock."""

    updated: float
    seen: float


class Reaper:
    """Looks after the sessions of the others."""

    def __init__(
        self, database: Database, session_id: int, interval: float, time: Callable[[], float] = clock.now
    ) -> None:
        self._database = database
        self._session_id = session_id
        self._interval = interval
        self._time = time
        self._signs: dict[int, _Sign] = {}
        self._looked = time()

    async def reap(self) -> None:
        """Declare silent sessions dead, and free what sessions hold that are not alive. Raises StoreError."""
        await self._declare_dead(await self._silent())
        # Not only what died just now: a process that was paused in the middle of a commit may finish it after its death.
        dead = [row["session_id"] for row in await self._database.fetch(_HOLDERS_NOT_ALIVE)]
        if dead:
            await self._database.transaction(partial(_free, sessions=dead))

    async def succeed(self, *, everybody: bool) -> None:
        """Declare our predecessors dead: sessions at our own address, where we are now, or all of them. Raises StoreError."""
        for row in await self._database.fetch(_DECLARE_PREDECESSORS_DEAD, self._session_id, everybody):
            logger.warning("session %d of %s did not end in good order, its leases are free", row["id"], row["uri"])
        await self.reap()

    async def end_session(self, patience: float = 0.0) -> None:
        """End our session: its leases are free at once, and this is no crash. Raises StoreError after `patience` seconds."""
        give_up = self._time() + patience
        while True:
            try:
                await self._database.transaction(partial(_end, session_id=self._session_id))
            except StoreError as error:
                if self._time() >= give_up:
                    raise
                logger.warning("the session is not ended yet: %s", error)
                await asyncio.sleep(PARTING_PAUSE)
            else:
                return

    async def _silent(self) -> list[Row]:
        """Sessions that are silent by the database's clock, and by what we have seen ourselves."""
        rows = await self._database.fetch(_OTHERS, self._session_id)
        now = self._time()
        if now - self._looked > SEEN_SILENT * self._interval:
            self._signs = {}  # the database was away, or we were: we have not seen that they were silent
        self._looked = now
        known, self._signs = self._signs, {}
        for row in rows:
            sign = known.get(row["id"])
            same = sign is not None and sign.updated == row["updated"]
            self._signs[row["id"]] = sign if sign is not None and same else _Sign(row["updated"], now)
        return [
            row for row in rows if row["silent"] > DEAD_AFTER * self._interval and self._saw_silence(row["id"], now)
        ]

    def _saw_silence(self, session_id: int, now: float) -> bool:
        return now - self._signs[session_id].seen >= SEEN_SILENT * self._interval

    async def _declare_dead(self, silent: Sequence[Row]) -> None:
        if silent:
            signs = dump_rows([{"id": row["id"], "updated": row["updated"]} for row in silent])
            for row in await self._database.fetch(_DECLARE_DEAD, signs):
                logger.warning("session %d of %s was silent for too long, its leases are free", row["id"], row["uri"])


async def free_some(connection: Connection, numbers: Sequence[int], session_id: int) -> None:
    """Free leases of a living session that it does not know of."""
    rows = dump_rows([{"id": number} for number in numbers])
    freed = await connection.fetch(_FREE_SOME, rows, session_id)
    await end_marked(connection, [row["tx_id"] for row in freed if row["cancelled"]])


async def _end(connection: Connection, session_id: int) -> None:
    await connection.fetch(_END, session_id)
    await _free(connection, [session_id])


async def _free(connection: Connection, sessions: Sequence[int]) -> None:
    """Free the leases of sessions that will not live again. What somebody has locked waits for the next time."""
    holders = dump_rows([{"id": number} for number in sessions])
    freed = await connection.fetch(_FREE, holders, CRASH_LIMIT, QUARANTINED)
    if freed:
        logger.info("%d leases of sessions %s are free", len(freed), ", ".join(map(str, sessions)))
        names = await connection.fetch(_LEAP, dump_rows([{"id": row["tx_id"]} for row in freed]), _VERSION_LEAP)
        quarantined = {row["tx_id"] for row in freed if row["held"] == QUARANTINED and not row["cancelled"]}
        for row in names:
            if row["id"] in quarantined:
                logger.error("%s: %s", row["rest_id"], QUARANTINED)
        await end_marked(connection, [row["tx_id"] for row in freed if row["cancelled"]])


_OTHERS = Statement("SELECT id, uri, updated, {now} - updated AS silent FROM sessions WHERE live AND id <> $1")
_DECLARE_DEAD = Statement(
    """
    UPDATE sessions SET live = false
    WHERE id IN (
        SELECT s.id FROM sessions s WHERE s.live AND (s.id, s.updated) IN (SELECT id, updated FROM {rows}) {skip_locked})
    RETURNING id, uri
    """,
    rows="id integer, updated float8",
)
_DECLARE_PREDECESSORS_DEAD = Statement(
    """
    UPDATE sessions SET live = false
    WHERE live AND id < $1 AND ($2 OR uri = (SELECT uri FROM sessions WHERE id = $1))
    RETURNING id, uri
    """
)
_END = Statement("UPDATE sessions SET live = false, ended = true, updated = {now} WHERE id = $1")
_HOLDERS_NOT_ALIVE = Statement(
    """
    SELECT DISTINCT session_id FROM queue
    WHERE session_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = queue.session_id AND s.live)
    """
)
# Both rows are locked, so that nothing that follows can wait for somebody who stands still.
_FREE = Statement(
    """
    WITH loose AS MATERIALIZED (
        SELECT q.tx_id, CASE WHEN EXISTS (SELECT 1 FROM sessions s WHERE s.id = q.session_id AND s.ended) THEN 0 ELSE 1
            END AS crash
        FROM queue q JOIN transactions t ON t.id = q.tx_id
        WHERE q.session_id IN (SELECT id FROM {rows}) {skip_locked}
    )
    UPDATE queue SET session_id = NULL, due_at = CASE WHEN due_at IS NOT NULL THEN {now} END, crashes = crashes + crash,
        held = CASE WHEN crash > 0 AND crashes + crash >= $2 THEN $3 ELSE held END
    FROM loose WHERE queue.tx_id = loose.tx_id
    RETURNING queue.tx_id, held, cancelled
    """,
    rows="id integer",
)
_FREE_SOME = Statement(
    """
    WITH loose AS MATERIALIZED (
        SELECT q.tx_id FROM queue q JOIN transactions t ON t.id = q.tx_id
        WHERE q.tx_id IN (SELECT id FROM {rows}) AND q.session_id = $2 {skip_locked}
    )
    UPDATE queue SET session_id = NULL, due_at = CASE WHEN due_at IS NOT NULL THEN {now} END
    FROM loose WHERE queue.tx_id = loose.tx_id
    RETURNING queue.tx_id, cancelled
    """,
    rows="id bigint",
)
_LEAP = Statement(
    "UPDATE transactions SET version = version + $2 WHERE id IN (SELECT id FROM {rows}) RETURNING id, rest_id",
    rows="id bigint",
)
