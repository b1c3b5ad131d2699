"""The store on PostgreSQL, shared by any number of routers, or on SQLite, for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sqlalchemy.engine import URL

from koukan.config.router import StorageConfig
from koukan.errors import StaleAttempt, StoreError
from koukan.model import Body
from koukan.storage import cancellation, collection
from koukan.storage.appends import Append, append_all
from koukan.storage.body import CHUNK_ROW, StoredBody
from koukan.storage.database import Database
from koukan.storage.intake import Intake
from koukan.storage.leases import Leases
from koukan.storage.loading import LOAD_BY_REST_ID
from koukan.storage.migrate import unusable, upgrade
from koukan.storage.postgresql import PostgresDatabase
from koukan.storage.reaping import PARTING_PATIENCE, Reaper
from koukan.storage.rows import load_envelope, load_transaction
from koukan.storage.sessions import Session
from koukan.storage.sqlite import SqliteDatabase
from koukan.storage.statement import Statement
from koukan.storage.store import (
    BODY,
    AttemptEnd,
    BlobRef,
    BlobState,
    NewTransaction,
    QueueStats,
    Store,
    StoredTransaction,
)
from koukan.storage.upkeep import Upkeep
from koukan.storage.url import connect_options, database_url, is_sqlite, sqlite_path
from koukan.storage.writer import Writer
from koukan.storage.writes import Finish

logger = logging.getLogger("koukan.storage")

#: largest number of a session: a client may make up any, and databases make errors of what does not fit
_LAST_SESSION = 2**31 - 1


class SqlStore(Store):
    """See the Store protocol."""

    def __init__(self, database: Database, session: Session, reaper: Reaper, config: StorageConfig) -> None:
        self._database = database
        self._session = session
        self._reaper = reaper
        self._leases = Leases(database, session.id)
        session.start()
        self._upkeep = Upkeep(
            config.session_refresh_interval, [reaper.reap, self._leases.release_strays, session.forget_dead]
        )
        self._blob_refresh = config.blob_tx_refresh_interval
        self._intake = Intake(database, session.id)
        self._writer = Writer(database)

    @classmethod
    async def open(cls, config: StorageConfig, *, session_uri: str, on_fenced: Callable[[], None]) -> SqlStore:
        """Bring the schema up to date and begin a session. Raises ConfigError and StartupError.

        `on_fenced` is called once when the session is lost: the process must stop working on what it holds.
        """
        url = database_url(config)
        await upgrade(url)
        database = await _open_database(url)
        interval = config.session_refresh_interval
        try:
            session = await Session.begin(database, session_uri, interval, on_fenced)
            reaper = Reaper(database, session.id, interval)
            # Who has the file of a SQLite database is alone with it: whoever had it before is gone.
            await (reaper.succeed(everybody=True) if is_sqlite(url) else reaper.reap())
        except StoreError as error:
            await database.close()
            raise unusable(url, error) from None
        except BaseException:
            await database.close()
            raise
        return cls(database, session, reaper, config)

    async def close(self) -> None:
        await self._writer.close()
        await self._upkeep.stop()
        await self._session.stop()
        try:
            await self._reaper.end_session(PARTING_PATIENCE if self.fenced else 0)
        except StoreError as error:
            logger.warning("the session was not ended, its leases are free when it times out: %s", error)
        await self._database.close()

    async def succeed(self) -> None:
        """We listen at our address: who had it before is gone, and what it held is free at once. Raises StoreError."""
        await self._reaper.succeed(everybody=False)

    @property
    def session_id(self) -> int:
        return self._session.id

    @property
    def fenced(self) -> bool:
        return self._session.fenced

    # --- writing -------------------------------------------------------------------------------------------------------

    async def keep(self, transactions: Sequence[NewTransaction]) -> None:
        self._require_session()
        insert = await self._intake.insert(transactions)
        self._leases.hold(insert)
        try:
            await self._writer.write(insert)
        except (StoreError, asyncio.CancelledError):
            # Should it be written all the same, nobody here works on it: the next heartbeat frees it.
            for transaction in transactions:
                self._leases.forget(transaction.id, transaction.attempts)
            raise

    def record(self, transaction: NewTransaction) -> None:
        self._writer.write_behind(self._intake.history(transaction))

    async def finish_attempt(self, end: AttemptEnd) -> str | None:
        number = self._leases.number(end.id)
        if number is None or self.fenced:
            raise StaleAttempt(f"{end.id} is not ours")
        bounce = None if end.bounce is None else await self._intake.insert([end.bounce])
        finish = Finish(number, self.session_id, end, bounce)
        try:
            await self._writer.write(finish)
        except StaleAttempt:
            self._leases.forget(end.id, end.attempt)
            raise
        self._leases.forget(end.id, end.attempt)
        return finish.final_reason

    async def cancel(self, tx_id: str) -> bool:
        return _nameable(tx_id) and await self._database.transaction(partial(cancellation.cancel, tx_id=tx_id))

    async def cancel_leased(self, tx_id: str) -> bool:
        self._require_session()
        mark = partial(cancellation.mark, tx_id=tx_id, session_id=self.session_id)
        return _nameable(tx_id) and await self._database.transaction(mark)

    async def append(self, tx_id: str, blob: str, offset: int, data: bytes, length: int | None) -> BlobState:
        if not _nameable(tx_id, blob):
            raise StoreError(f"there is no transaction {tx_id!r} with a blob {blob!r}")
        self._require_session()
        append = Append(tx_id, blob, offset, data, length, self._blob_refresh)
        if append.size < CHUNK_ROW:
            await self._writer.write(append)
        else:
            await self._database.transaction(partial(append_all, appends=[append]))
        if append.refused is not None:
            raise append.refused
        return append.state

    def _require_session(self) -> None:
        if self.fenced:
            raise StoreError("this process has lost its session")

    # --- the queue -----------------------------------------------------------------------------------------------------

    async def claim(self, limit: int, running: Mapping[str, int] | None = None) -> list[StoredTransaction]:
        return [] if self.fenced else await self._leases.claim(limit, running)

    async def stats(self) -> QueueStats:
        row = (await self._database.fetch(_STATS))[0]
        return QueueStats(row["depth"], max(0.0, float(row["oldest"])), row["sessions"])

    async def collect(self, ttl: float, limit: int) -> int:
        return await collection.collect(self._database, ttl, limit)

    # --- reading -------------------------------------------------------------------------------------------------------

    async def load(self, tx_id: str) -> StoredTransaction | None:
        rows = await self._database.fetch(LOAD_BY_REST_ID, tx_id) if _nameable(tx_id) else ()
        return load_transaction(rows[0], self.session_id) if rows else None

    async def find_blob(self, tx_id: str, blob: str, sender: str) -> BlobRef | None:
        rows = await self._database.fetch(_FIND_BLOB, tx_id, blob) if _nameable(tx_id, blob) else ()
        if not rows or load_envelope(rows[0]["envelope"]).sender.name != sender:
            return None
        return BlobRef(rows[0]["id"], rows[0]["size"])

    def read_blob(self, ref: BlobRef) -> Body:
        return StoredBody(self._database, ref)

    def read_body(self, tx: StoredTransaction, blob: str = BODY) -> Body:
        return StoredBody(self._database, BlobRef(tx.blob_ids[blob], tx.blobs[blob].size))

    async def session_uri(self, session_id: int) -> str | None:
        return await self._session.uri_of(session_id) if 0 < session_id <= _LAST_SESSION else None

    async def ping(self) -> None:
        await self._database.fetch(_PING)


async def _open_database(url: URL) -> Database:
    return await SqliteDatabase.open(sqlite_path(url)) if is_sqlite(url) else PostgresDatabase(connect_options(url))


def _nameable(*names: str) -> bool:
    """Whether rows may have these names: text of PostgreSQL holds no NUL, and asking for one is an error there."""
    return not any("\x00" in name for name in names)


_FIND_BLOB = Statement(
    """
    SELECT blobs.id, size, envelope FROM transactions t JOIN blob_refs f ON f.tx_id = t.id JOIN blobs ON blobs.id = f.blob_id
    WHERE t.rest_id = $1 AND f.name = $2 AND length = size
    """
)
_PING = Statement("SELECT 1 AS alive")
_STATS = Statement(
    """
    SELECT (SELECT count(*) FROM queue) AS depth, (SELECT count(*) FROM sessions WHERE live) AS sessions,
        (SELECT coalesce({now} - min(due_at), 0) FROM queue
         WHERE session_id IS NULL AND held IS NULL AND due_at <= {now}) AS oldest
    """
)
