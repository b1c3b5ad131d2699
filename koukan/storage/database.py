"""The seam to the database: statements in, rows out, trouble as three kinds of StoreError."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from koukan.errors import StoreError
from koukan.storage.statement import Statement

T = TypeVar("T")


class Rejected(StoreError):
    """The database refused what a statement says; it would again."""


class CommitUnknown(StoreError):
    """The connection was lost during the commit: what was written may be there or not."""


class Row(Protocol):
    """One row of a result, by column name."""

    def __getitem__(self, column: str, /) -> Any: ...


class Connection(Protocol):
    """A transaction under way."""

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Row]:
        """Execute a statement. Raises StoreError."""
        ...

    async def write_rows(self, statement: Statement, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement with `{columns}` for rows of parameters. Raises StoreError."""
        ...

    async def try_lock(self, key: int) -> bool:
        """Lock a number until the transaction ends, unless another process has it."""
        ...


class Database(ABC):
    """Connections to one database.

    Whoever waits here may be cancelled: what has been begun goes on to its end all the same, since a statement that is cut
    short leaves a connection in doubt, and a commit that is cut short leaves everything in doubt.
    """

    def __init__(self) -> None:
        self._operations: set[asyncio.Task[Any]] = set()

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Row]:
        """Execute one statement in a transaction of its own. Raises StoreError."""
        return await self._protected(self._fetch(statement, parameters))

    async def fetch_apart(self, statement: Statement, *parameters: object) -> Sequence[Row]:
        """The same beside everything else: however many statements hang, this one finds a connection. Raises StoreError."""
        return await self._protected(self._fetch_apart(statement, parameters))

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` in one transaction, committed when it returns. Raises StoreError, and what `work` raises."""
        return await self._protected(self._transaction(work))

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        if self._operations:
            await asyncio.wait(self._operations)
        await self._close()

    async def _protected(self, operation: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(operation)
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        return await asyncio.shield(task)

    @abstractmethod
    async def _fetch(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]: ...

    @abstractmethod
    async def _fetch_apart(self, statement: Statement, parameters: Sequence[object]) -> Sequence[Row]: ...

    @abstractmethod
    async def _transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T: ...

    @abstractmethod
    async def _close(self) -> None: ...


def one_line(error: BaseException) -> str:
    """What an error says, fit for a log line and for a client."""
    return " ".join(str(error).split())[:300] or type(error).__name__
