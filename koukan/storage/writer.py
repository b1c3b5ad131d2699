"""Group commit: writes of many transactions share one database transaction."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial

from koukan.errors import StoreError
from koukan.storage.appends import Append, append_all
from koukan.storage.database import CommitUnknown, Connection, Database, Rejected
from koukan.storage.writes import Finish, Insert, Write, finish_all, insert_all

logger = logging.getLogger("koukan.storage")

#: writes in one commit: enough that the cost of a commit vanishes, few enough that nobody waits long for the others
BATCH_WRITES = 200
#: bytes of bodies in one commit, for the same reason, and since they are in memory meanwhile
BATCH_BYTES = 4 * 1024 * 1024
#: history rows that may wait (10 MB or so); beyond it the oldest are dropped and counted, since nobody was promised them
HISTORY_LIMIT = 10_000
#: seconds that history rows wait for company
HISTORY_DELAY = 0.5
#: times a batch is tried: a connection that has died with its server is noticed by the first, and a deadlock is over
TRIES = 2
#: looks at what is there after a commit of unknown outcome: longer than a restart of PostgreSQL takes, shorter than clients
#: wait
LOOKS = 6
#: seconds between these looks
LOOK_PAUSE = 1.0


class Writer:
    """Collects writes and commits them together, one commit after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[Write, asyncio.Future[None]]] = deque()
        self._history: deque[Insert] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        #: history rows that never got to the database
        self.dropped = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def write(self, write: Write) -> None:
        """Returns after the commit. Raises StoreError; whoever is cancelled here has written all the same."""
        if self._closing:
            raise StoreError("the store is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, done))
        self._wake.set()
        await done

    def write_behind(self, history: Insert) -> None:
        """Write it soon, with others; nobody waits."""
        if len(self._history) >= HISTORY_LIMIT:
            self._history.popleft()
            self._drop(1, "the database is behind")
        self._history.append(history)
        self._write_history_in(HISTORY_DELAY)

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self) -> None:
        while not self._closing or self._wake.is_set():
            await self._wake.wait()
            self._wake.clear()
            history_stuck = False
            while self._waiting or (self._history and not history_stuck):
                history_stuck = not await self._commit_next()

    async def _commit_next(self) -> bool:
        """Commit a batch of what is waiting. False when its history stays behind, to be tried again later."""
        waiting, history = self._take()
        writes = [write for write, _ in waiting]
        failed = await _Batch(self._database).commit([*writes, *history])
        for write, done in waiting:
            _resolve(done, failed.get(write) or write.refused)
        return self._settle_history([h for h in history if h in failed], failed)

    def _take(self) -> tuple[list[tuple[Write, asyncio.Future[None]]], list[Insert]]:
        waiting: list[tuple[Write, asyncio.Future[None]]] = []
        size = 0
        while self._waiting and len(waiting) < BATCH_WRITES and size < BATCH_BYTES:
            waiting.append(self._waiting.popleft())
            size += waiting[-1][0].size
        history = [self._history.popleft() for _ in range(min(len(self._history), BATCH_WRITES))]
        return waiting, history

    def _settle_history(self, failed: Sequence[Insert], errors: dict[Write, StoreError]) -> bool:
        lost = [history for history in failed if self._closing or isinstance(errors[history], Rejected)]
        if lost:
            self._drop(len(lost), str(errors[lost[0]]))
        later = [history for history in failed if history not in lost]
        self._history.extendleft(reversed(later))
        if later:
            self._write_history_in(LOOK_PAUSE)
        return not later

    def _write_history_in(self, delay: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake_for_history)

    def _wake_for_history(self) -> None:
        self._timer = None
        self._wake.set()

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        # The first of a series, then one line for each thousand: trouble must not flood the log as well.
        if self.dropped == count or self.dropped // 1000 != (self.dropped - count) // 1000:
            logger.warning("history rows dropped: %d so far: %s", self.dropped, reason)


class _Batch:
    """Writes on their way through commits, together as far as possible."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failed: dict[Write, StoreError] = {}
        #: what was in a commit of unknown outcome
        self._doubtful: set[Write] = set()

    async def commit(self, writes: Sequence[Write], tries: int = TRIES) -> dict[Write, StoreError]:
        """Commit them. Answers those that could not be, with the reason."""
        try:
            await self._database.transaction(partial(write_all, writes=writes))
        except Rejected as error:
            await self._without_the_bad(writes, error)
        except CommitUnknown as error:
            logger.warning("the outcome of a commit is unknown, looking what is written: %s", error)
            self._doubtful.update(writes)
            await self._look(writes, error, tries)
        except StoreError as error:
            await self._again(writes, error, tries)
        except Exception as bug:
            logger.exception("internal error in a write")
            await self._without_the_bad(writes, Rejected(f"internal error: {type(bug).__name__}"))
        return self._failed

    async def _without_the_bad(self, writes: Sequence[Write], error: Rejected) -> None:
        """One of them is at fault: halves of halves find out which, and the others still share commits."""
        if len(writes) == 1:
            # Refused as a duplicate of itself, when a commit that seemed lost went through after all?
            if writes[0] in self._doubtful:
                await self._look(writes, error, tries=1)
            else:
                self._failed[writes[0]] = error
            return
        middle = len(writes) // 2
        await self.commit(writes[:middle])
        await self.commit(writes[middle:])

    async def _again(self, writes: Sequence[Write], error: StoreError, tries: int) -> None:
        if tries > 1:
            await self.commit(writes, tries - 1)
        else:
            self._failed.update(dict.fromkeys(writes, error))

    async def _look(self, writes: Sequence[Write], error: StoreError, tries: int) -> None:
        """A commit may have happened: look, and try again what is not there."""
        for _ in range(LOOKS):
            try:
                missing = await self._database.transaction(partial(_missing, writes=writes))
            except StoreError as trouble:
                error = trouble
                await asyncio.sleep(LOOK_PAUSE)
            else:
                if missing:
                    await self._again(missing, error, tries)
                return
        self._failed.update(dict.fromkeys(writes, error))


async def write_all(connection: Connection, writes: Sequence[Write]) -> None:
    """Execute a batch in the transaction of `connection`, kind by kind."""
    for write in writes:
        write.refused = None
    finishes = [write for write in writes if isinstance(write, Finish)]
    inserts = [write for write in writes if isinstance(write, Insert)]
    appends = [write for write in writes if isinstance(write, Append)]
    if finishes:
        await finish_all(connection, finishes)
    if inserts:
        await insert_all(connection, inserts)
    if appends:
        await append_all(connection, appends)


async def _missing(connection: Connection, writes: Sequence[Write]) -> list[Write]:
    return [write for write in writes if not await write.is_written(connection)]


def _resolve(done: asyncio.Future[None], error: StoreError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
