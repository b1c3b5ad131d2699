"""Database URLs as people write them, in the terms of our drivers. Passwords never get into a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from koukan.config.router import StorageConfig
from koukan.errors import ConfigError

#: keyword arguments of asyncpg.connect
ConnectOptions = dict[str, Any]

#: drivers that configurations of the existing Koukan, and of SQLAlchemy programs, name
_POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"})
_SQLITE = frozenset({"sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"})
_EXAMPLES = "use postgresql://user:password@host/database or sqlite:///path"

#: seconds to reach the server, unless the URL says connect_timeout
_CONNECT_TIMEOUT = 5.0
#: libpq's parameters that asyncpg understands as part of a URL only
_PASSED_ON = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation", "target_session_attrs"}
)
_PARAMETERS = _PASSED_ON | {"host", "port", "connect_timeout", "application_name", "options", "passfile"}


def database_url(config: StorageConfig) -> URL:
    """The URL of a `storage` stanza, checked. Raises ConfigError."""
    if config.url is not None:
        return parse_url(config.url)
    path = Path(config.url_file or "")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"storage.url_file: cannot read {path}: {getattr(error, 'strerror', 'no text')}") from None
    return parse_url(text.strip(), key="storage.url_file")


def parse_url(text: str, key: str = "storage.url") -> URL:
    """A URL whose driver is `postgresql` or `sqlite`. Raises ConfigError with `key` as the place."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"{key}: is no database URL; {_EXAMPLES}") from None
    if url.drivername in _SQLITE:
        if url.host or url.query or url.database in (None, ":memory:"):
            raise ConfigError(f"{key}: takes a file: sqlite:///path, or sqlite:////path from the root")
        return url.set(drivername="sqlite")
    if url.drivername not in _POSTGRESQL:
        raise ConfigError(f"{key}: {url.drivername!r} is no database that Koukan knows; {_EXAMPLES}")
    for name in url.query:
        if name not in _PARAMETERS:
            raise ConfigError(f"{key}: unknown parameter {name!r}; allowed are {', '.join(sorted(_PARAMETERS))}")
    url = url.set(drivername="postgresql")
    try:
        connect_options(url)
    except ValueError:
        raise ConfigError(f"{key}: port and connect_timeout must be numbers") from None
    return url


def is_sqlite(url: URL) -> bool:
    return url.drivername == "sqlite"


def sqlite_path(url: URL) -> str:
    """The file of a SQLite URL."""
    assert url.database, "parse_url has seen to it"
    return url.database


def connect_options(url: URL) -> ConnectOptions:
    """What asyncpg.connect takes for a PostgreSQL URL; `host` may be a list, or the directory of a socket."""
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    hosts = query.pop("host", url.host or "")
    ports = query.pop("port", str(url.port or ""))
    settings = {"application_name": query.pop("application_name", "koukan")}
    if "options" in query:
        settings["options"] = query.pop("options")
    options: ConnectOptions = {
        "host": hosts.split(",") if hosts else None,
        "port": [int(port) for port in ports.split(",")] if "," in ports else int(ports) if ports else None,
        "user": url.username,
        "password": url.password,
        "database": url.database,
        "passfile": query.pop("passfile", None),
        "timeout": float(query.pop("connect_timeout", 0)) or _CONNECT_TIMEOUT,
        "server_settings": settings,
    }
    if query:
        options["dsn"] = f"postgresql:///?{urlencode(query)}"
    return options


def described(url: URL) -> str:
    """The URL for messages, without its password."""
    return url.set(query={}).render_as_string(hide_password=True)
