"""Schema migrations (alembic), applied at start under a lock, so that any number of replicas may start at once."""

from __future__ import annotations

import logging

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from koukan.errors import StartupError
from koukan.storage.url import described

#: key of PostgreSQL's advisory lock: "koukan" in ASCII
_LOCK = 0x6B6F756B616E


async def upgrade(url: URL) -> None:
    """Bring the database to this version's schema. Raises StartupError."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            if url.get_backend_name() == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_upgrade)
    except (SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StartupError(f"storage.url: cannot use the database {described(url)}: {reason}") from None
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", "koukan.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
