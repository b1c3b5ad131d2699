"""Schema migrations (alembic), applied at start under a lock, so that any number of replicas may start at once."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from koukan.errors import StartupError
from koukan.storage import postgresql
from koukan.storage.database import one_line
from koukan.storage.sqlite import lock_file
from koukan.storage.url import connect_options, described, is_sqlite, sqlite_path

#: key of PostgreSQL's advisory lock: "koukan" in ASCII
_LOCK = 0x6B6F756B616E


async def upgrade(url: URL) -> None:
    """Bring the database to this version's schema. Raises StartupError."""
    if not is_sqlite(url):
        await _upgrade(url, _postgresql_engine(url))
        return
    path = sqlite_path(url)
    with closing(lock_file(path)):
        await _upgrade(url, _sqlite_engine(path))


async def _upgrade(url: URL, engine: AsyncEngine) -> None:
    try:
        async with engine.begin() as connection:
            if not is_sqlite(url):
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_run_alembic)
    except CommandError as error:
        raise unusable(url, error, "its schema is not of this version of Koukan: ") from None
    except (SQLAlchemyError, *postgresql.ERRORS) as error:
        raise unusable(url, getattr(error, "orig", None) or error) from None
    finally:
        await engine.dispose()


def unusable(url: URL, error: BaseException, what: str = "") -> StartupError:
    """Why the program does not start, without the password."""
    reason = what + one_line(error)
    if url.password:
        reason = reason.replace(str(url.password), "***")
    return StartupError(f"storage.url: cannot use the database {described(url)}: {reason}")


def _postgresql_engine(url: URL) -> AsyncEngine:
    async def connect() -> Any:
        # Without a limit: a migration may take long, and so may waiting for another process's.
        return await postgresql.connect(connect_options(url), command_timeout=None)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def _sqlite_engine(path: str) -> AsyncEngine:
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=path), poolclass=NullPool)
    # Python's driver would begin transactions by itself, and not before DDL: a failed migration would stay half done.
    event.listen(engine.sync_engine, "connect", _begin_ourselves)
    event.listen(engine.sync_engine, "begin", _begin_exclusively)
    return engine


def _begin_ourselves(connection: Any, record: object) -> None:
    connection.isolation_level = None


def _begin_exclusively(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN EXCLUSIVE")


def _run_alembic(connection: Connection) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", "koukan.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
