"""The database as it is found at start: empty, current, of another version, or not usable at all."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest

from koukan.config.router import StorageConfig
from koukan.errors import ConfigError, StartupError
from koukan.storage.migrate import upgrade
from koukan.storage.tables import metadata
from koukan.storage.url import database_url, parse_url
from tests.support.postgres import PostgresServer
from tests.support.stores import open_store, opened, sql, transaction

_UPGRADE = """
import asyncio, sys
from koukan.storage.migrate import upgrade
from koukan.storage.url import parse_url
asyncio.run(upgrade(parse_url(sys.argv[1])))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url")
    return url


async def test_an_upgrade_may_be_repeated_and_loses_nothing(empty_url: str) -> None:
    async with opened(empty_url) as store:
        await store.keep([transaction("a")])
    await upgrade(parse_url(empty_url))
    await upgrade(parse_url(empty_url))
    async with opened(empty_url) as store:
        assert [claimed.id for claimed in await store.claim(10)] == ["a"]


async def test_the_migrations_lead_to_the_tables_that_the_code_names(empty_url: str) -> None:
    async with opened(empty_url) as store:
        for table in metadata.sorted_tables:
            columns = ", ".join(column.name for column in table.columns)
            await sql(store, f"SELECT {columns} FROM {table.name}")


async def test_processes_that_upgrade_at_the_same_time_wait_for_each_other(empty_postgres_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _UPGRADE, empty_postgres_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    async with opened(empty_postgres_url) as store:
        assert [row["version_num"] for row in await sql(store, "SELECT version_num FROM alembic_version")] == ["0002"]


async def test_routers_that_start_at_the_same_time_on_an_empty_database(empty_postgres_url: str) -> None:
    stores = await asyncio.gather(*(open_store(empty_postgres_url, f"http://router-{n}:8000") for n in range(4)))
    try:
        assert len({store.session_id for store in stores}) == 4
    finally:
        for store in stores:
            await store.close()


async def test_a_schema_of_a_later_version_is_refused(empty_url: str) -> None:
    async with opened(empty_url) as store:
        await sql(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartupError, match=r"its schema is not of this version of Koukan: .*9999") as error:
        await open_store(empty_url)
    assert "\n" not in str(error.value)


async def test_a_migration_that_fails_leaves_nothing_behind(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE queue (somebody TEXT)")
    database.close()
    with pytest.raises(StartupError, match="already exists"):
        await open_store(sqlite_url)
    database = sqlite3.connect(path)
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()
    assert tables == {"queue"}


# --- what cannot be used ----------------------------------------------------------------------------------------------------


async def unusable(url: str) -> str:
    """The one line that a router would end with."""
    with pytest.raises((StartupError, ConfigError)) as error:
        await open_store(url)
    text = str(error.value)
    assert "\n" not in text and text.startswith("storage.url")
    return text


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file or directory" in await unusable(f"sqlite:///{tmp_path}/nowhere/koukan.db")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "koukan.db"
    path.write_bytes(b"this is no database" * 1000)
    assert "file is not a database" in await unusable(f"sqlite:///{path}")


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    text = await unusable(f"postgresql://koukan:s3cret@/koukan?host={tmp_path}")
    assert "s3cret" not in text and "***" in text


async def test_a_port_that_nobody_listens_on(unused_tcp_port: int) -> None:
    text = await unusable(f"postgresql://koukan:s3cret@127.0.0.1:{unused_tcp_port}/koukan")
    assert "s3cret" not in text and "127.0.0.1" in text


async def test_a_database_that_is_not_there(postgres_server: PostgresServer) -> None:
    assert 'database "nowhere" does not exist' in await unusable(postgres_server.url("nowhere"))


async def test_a_role_that_may_not(postgres_server: PostgresServer, empty_postgres_url: str) -> None:
    connection = await postgres_server.connect()
    try:
        await connection.execute("CREATE ROLE nobody_here LOGIN")
        assert "permission denied" in await unusable(empty_postgres_url.replace("postgres@", "nobody_here@"))
        await connection.execute("DROP ROLE nobody_here")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://db/koukan", "'mysql' is no database that Koukan knows; use postgresql://"),
        ("nonsense", "is no database URL; use postgresql://"),
        ("postgresql://db:port/koukan", "is no database URL"),
        ("sqlite://", "takes a file"),
        ("sqlite:///:memory:", "takes a file"),
        ("postgresql://db/koukan?sslmod=require", "unknown parameter 'sslmod'; allowed are"),
        ("postgresql://db/koukan?connect_timeout=soon", "must be numbers"),
    ],
)
async def test_a_url_that_cannot_be_meant(url: str, problem: str) -> None:
    assert problem in await unusable(url)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql+psycopg://u:p@db/koukan", "postgresql"),
        ("postgresql+psycopg2://u:p@db/koukan", "postgresql"),
        ("postgresql+asyncpg://u:p@db/koukan", "postgresql"),
        ("postgres://u:p@db/koukan", "postgresql"),
        ("sqlite+pysqlite:////var/lib/koukan/db", "sqlite"),
        ("sqlite+aiosqlite:///db", "sqlite"),
    ],
)
def test_urls_of_other_drivers_mean_the_same_database(url: str, driver: str) -> None:
    found = database_url(StorageConfig(url=url))
    assert found.drivername == driver
    assert found.database in ("koukan", "/var/lib/koukan/db", "db")


def test_a_url_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://u:p@db/koukan\n")
    assert database_url(StorageConfig(url_file=str(path))).host == "db"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"^storage\.url_file: is no database URL"):
        database_url(StorageConfig(url_file=str(path)))
    with pytest.raises(ConfigError, match=r"^storage\.url_file: cannot read .*: No such file"):
        database_url(StorageConfig(url_file=str(tmp_path / "nowhere")))
