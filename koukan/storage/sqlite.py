"""SQLite through aiosqlite: one process, one connection, one transaction at a time."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar, cast

import aiosqlite

from koukan.errors import StartupError, StoreError
from koukan.storage.database import Connection, Database, Rejected, Row, one_line
from koukan.storage.statement import Statement

T = TypeVar("T")

#: FULL, because a commit is a promise; WAL, because it needs one sync for that instead of two
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")
#: errors about a statement; the others (OperationalError: disk full, cannot open) are about the surroundings
_ABOUT_THE_STATEMENT = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
)


class SqliteDatabase(Database):
    """One database in a file."""

    def __init__(self, connection: aiosqlite.Connection, lock: IO[bytes]) -> None:
        super().__init__()
        self._connection = connection
        self._file_lock = lock
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, path: str) -> SqliteDatabase:
        """Open the file for this process alone. Raises StartupError."""
        lock = lock_file(path)
        try:
            return cls(await _connect(path), lock)
        except sqlite3.Error as error:
            lock.close()
            raise StartupError(f"storage.url: cannot use {path}: {one_line(error)}") from None

    async def _fetch(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]:
        async with self._turn:
            return await _Transaction(self._connection).fetch(statement, *parameters)

    async def _fetch_apart(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]:
        # Nobody else is there whose locks it could wait for.
        return await self._fetch(statement, parameters)

    async def _transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._turn:
            transaction = _Transaction(self._connection)
            await transaction.execute("BEGIN IMMEDIATE")
            try:
                result = await work(transaction)
                await transaction.execute("COMMIT")
            except BaseException:
                await self._roll_back()
                raise
            return result

    async def _roll_back(self) -> None:
        # Some errors (disk full) have ended the transaction already.
        if self._connection.in_transaction:
            await self._connection.rollback()

    async def _close(self) -> None:
        await self._connection.close()
        self._file_lock.close()


class _Transaction(Connection):
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Row]:
        with _translated():
            rows = await self._connection.execute_fetchall(statement.sqlite, parameters)
        return cast("Sequence[Row]", rows)

    async def write_rows(self, statement: Statement, rows: Sequence[Sequence[object]]) -> None:
        with _translated():
            await (await self._connection.executemany(statement.sqlite, rows)).close()

    async def try_lock(self, key: int) -> bool:
        return True

    async def execute(self, command: str) -> None:
        with _translated():
            await self._connection.execute_fetchall(command)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _ABOUT_THE_STATEMENT as error:
        raise Rejected(one_line(error)) from error
    except (sqlite3.Error, ValueError) as error:
        # aiosqlite says with a ValueError that the connection is closed.
        raise StoreError(one_line(error)) from error


def lock_file(path: str) -> IO[bytes]:
    """Take the database for this process, with a lock on a file beside it, until the answer is closed. Raises StartupError."""
    try:
        file = Path(f"{path}.lock").open("wb")
    except OSError as error:
        raise StartupError(f"storage.url: cannot use {path}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StartupError(
            f"storage.url: {path} is in use by another process; SQLite serves one, use PostgreSQL for several"
        ) from None
    return file


async def _connect(path: str) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            await connection.execute_fetchall(f"PRAGMA {pragma}")
    except sqlite3.Error:
        await connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection
