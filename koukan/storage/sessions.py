"""Sessions: one per process start. A process that falls silent loses its leases; one that cannot say so gives up by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from koukan import clock
from koukan.errors import StoreError
from koukan.storage.database import Database
from koukan.storage.statement import Statement

logger = logging.getLogger("koukan.storage")

#: heartbeats that a process may miss before it stops working, since it cannot tell whether the others still believe in it
FENCE_AFTER = 5
#: heartbeats after which a dead session is forgotten; until then its row says for support what became of it
FORGET_AFTER = 1000


class Session:
    """This process as the others see it."""

    def __init__(
        self,
        database: Database,
        session_id: int,
        interval: float,
        on_fenced: Callable[[], None],
        monotonic: Callable[[], float] = clock.now,
    ) -> None:
        self.id = session_id
        self._fenced = False
        self._database = database
        self._interval = interval
        self._on_fenced = on_fenced
        self._monotonic = monotonic
        self._refreshed = monotonic()
        self._task: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None

    @classmethod
    async def begin(cls, database: Database, uri: str, interval: float, on_fenced: Callable[[], None]) -> Session:
        """Begin a session. Raises StoreError."""
        # What the process does from now on is too late when this takes too long.
        asked = clock.now()
        rows = await database.fetch(_BEGIN, uri)
        session = cls(database, rows[0]["id"], interval, on_fenced)
        session._refreshed = asked
        return session

    @property
    def fenced(self) -> bool:
        """The session is lost, or too long not confirmed to be sure of it. The clock is looked at each time."""
        if not self._fenced and self._left <= 0:
            self._fence("the database did not confirm it in time")
        return self._fenced

    def start(self) -> None:
        """Begin with the heartbeat."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the heartbeat; the session lives on in the database until it is ended there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._beat is not None:
            await asyncio.wait([self._beat])

    async def beat(self) -> None:
        """One heartbeat, beside everything else that the database is asked. Raises StoreError."""
        asked = self._monotonic()
        if await self._database.fetch_apart(_REFRESH, self.id):
            self._refreshed = asked
        else:
            self._fence("another process declared it dead")

    async def forget_dead(self) -> None:
        """Forget sessions that have long been dead. Raises StoreError."""
        await self._database.fetch(_FORGET, FORGET_AFTER * self._interval)

    async def uri_of(self, session_id: int) -> str | None:
        """Where a live session is reached."""
        rows = await self._database.fetch(_URI, session_id)
        return rows[0]["uri"] if rows else None

    @property
    def _left(self) -> float:
        return self._refreshed + FENCE_AFTER * self._interval - self._monotonic()

    async def _run(self) -> None:
        while not self.fenced:
            await asyncio.sleep(self._interval)
            self._beat = asyncio.get_running_loop().create_task(self._try_beat())
            # A beat that hangs in the database must not keep the process from noticing that its time is up.
            while not self.fenced and not self._beat.done():
                await asyncio.wait([self._beat], timeout=self._left)

    async def _try_beat(self) -> None:
        try:
            await self.beat()
        except StoreError as error:
            logger.warning("the session was not refreshed: %s", error)

    def _fence(self, reason: str) -> None:
        if not self._fenced:
            logger.critical("session %d is lost: %s", self.id, reason)
            self._fenced = True
            self._on_fenced()


_BEGIN = Statement("INSERT INTO sessions (uri, live, created, updated) VALUES ($1, true, {now}, {now}) RETURNING id")
_REFRESH = Statement("UPDATE sessions SET updated = {now} WHERE id = $1 AND live RETURNING id")
_URI = Statement("SELECT uri FROM sessions WHERE id = $1 AND live")
_FORGET = Statement(
    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE NOT live AND updated < {now} - $1 {skip_locked})"
)
