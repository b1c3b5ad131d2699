"""PostgreSQL through asyncpg."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from koukan.errors import StoreError
from koukan.storage.database import CommitUnknown, Connection, Database, Rejected, Row, one_line
from koukan.storage.pool import Pool
from koukan.storage.statement import Statement
from koukan.storage.url import ConnectOptions

logger = logging.getLogger("koukan.storage")
T = TypeVar("T")

#: connections of one process, beside that of its heartbeat: writes share one, the others are for reads, claims and large
#: bodies
POOL_SIZE = 8
#: seconds to wait for one of them before the answer is a temporary failure
POOL_TIMEOUT = 5
#: seconds for one statement; all of ours take milliseconds, so what takes longer is a dead network or a stuck server
COMMAND_TIMEOUT = 20

#: What every connection is told. Our statements reach few rows through an index, in its order; the statistics of a queue are
#: always out of date, and a plan made while a table was empty would go on to scan it when it is full. Compiling pays for none
#: of them. A process that stops in the middle of a transaction must not keep its locks.
_PREPARE = """
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
    set_config('enable_sort', 'off', false), set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false),
    set_config('idle_in_transaction_session_timeout', '30s', false), pg_is_in_recovery() AS standby
"""

#: SQLSTATE classes that speak about the statement, not about the server: data, constraints, syntax, limits of a row
_ABOUT_THE_STATEMENT = frozenset({"0A", "21", "22", "23", "42", "44", "54"})
#: classes of a COMMIT that certainly did not happen: the above, wrong state, rolled back, out of resources
_NOT_COMMITTED = _ABOUT_THE_STATEMENT | {"25", "40", "53"}
_READ_ONLY = "25006"
#: everything that asyncpg raises for what the server or the network do
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

_TRY_LOCK = Statement("SELECT pg_try_advisory_xact_lock($1) AS locked")


async def connect(options: ConnectOptions, *, command_timeout: float | None = COMMAND_TIMEOUT) -> Any:
    """A connection to a server that takes writes. Raises one of ERRORS."""
    connection = await asyncpg.connect(command_timeout=command_timeout, **options)
    try:
        row = await connection.fetchrow(_PREPARE)
        if row["standby"]:
            raise ConnectionError("the server is a standby, which is read-only")
    except BaseException:
        connection.terminate()
        raise
    return connection


class PostgresDatabase(Database):
    """One database on a PostgreSQL server."""

    def __init__(self, options: ConnectOptions) -> None:
        super().__init__()
        self._options = options
        self._pool = Pool(self._connect, size=POOL_SIZE, timeout=POOL_TIMEOUT)
        self._apart = Pool(self._connect, size=1, timeout=POOL_TIMEOUT)

    async def _connect(self) -> Any:
        try:
            return await connect(self._options)
        except ERRORS as error:
            raise StoreError(f"the database cannot be reached: {one_line(error)}") from error

    async def _fetch(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]:
        async with self._pool.connection() as connection:
            return await _Transaction(connection).fetch(statement, *parameters)

    async def _fetch_apart(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]:
        async with self._apart.connection() as connection:
            return await _Transaction(connection).fetch(statement, *parameters)

    async def _transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.connection() as connection:
            transaction = _Transaction(connection)
            try:
                await transaction.execute("BEGIN")
                result = await work(transaction)
            except BaseException as error:
                await transaction.roll_back(error)
                raise
            await transaction.commit()
            return result

    async def _close(self) -> None:
        await self._pool.close()
        await self._apart.close()


class _Transaction(Connection):
    """What is done on one connection. Errors become ours here, and a connection in doubt is dropped here."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Row]:
        try:
            rows: Sequence[Row] = await self._connection.fetch(statement.postgresql, *parameters)
        except ERRORS as error:
            raise self._trouble(error) from error
        return rows

    async def write_rows(self, statement: Statement, rows: Sequence[Sequence[object]]) -> None:
        await self.fetch(statement, *zip(*rows, strict=True))

    async def try_lock(self, key: int) -> bool:
        return bool((await self.fetch(_TRY_LOCK, key))[0]["locked"])

    async def execute(self, command: str) -> None:
        try:
            await self._connection.execute(command)
        except ERRORS as error:
            raise self._trouble(error) from error

    async def commit(self) -> None:
        try:
            await self._connection.execute("COMMIT")
        except ERRORS as error:
            trouble = self._trouble(error)
            if _sqlstate_class(error) in _NOT_COMMITTED:
                raise trouble from error
            raise CommitUnknown(str(trouble)) from error

    async def roll_back(self, reason: BaseException) -> None:
        try:
            if not self._connection.is_closed():
                await self._connection.execute("ROLLBACK")
        except ERRORS as error:
            logger.debug("a connection is dropped after %s: %s", type(reason).__name__, one_line(error))
            self._connection.terminate()

    def _trouble(self, error: BaseException) -> StoreError:
        kind = _sqlstate_class(error)
        if kind in _ABOUT_THE_STATEMENT:
            return Rejected(one_line(error))
        if kind not in _NOT_COMMITTED or getattr(error, "sqlstate", None) == _READ_ONLY:
            self._connection.terminate()
        return StoreError(one_line(error) if kind else f"the connection to the database was lost: {one_line(error)}")


def _sqlstate_class(error: BaseException) -> str:
    return (getattr(error, "sqlstate", None) or "")[:2]
