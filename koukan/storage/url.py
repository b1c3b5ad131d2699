"""Database URLs as people write them, mapped to our drivers. Passwords never get into a message."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from koukan.config.router import StorageConfig
from koukan.errors import ConfigError

_POSTGRESQL = frozenset(
    {"postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg", "postgresql+psycopg_async"}
)
_SQLITE = frozenset({"sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"})

#: libpq's parameters that asyncpg calls otherwise; None: has no meaning there
_LIBPQ: dict[str, str | None] = {
    "sslmode": "ssl",
    "connect_timeout": "timeout",
    "application_name": None,
    "target_session_attrs": "target_session_attrs",
    "gssencmode": None,
    "channel_binding": None,
}


def database_url(config: StorageConfig) -> URL:
    """The URL of the `storage` stanza, with the driver that we use. Raises ConfigError."""
    text = config.url
    if text is None:
        path = Path(config.url_file or "")
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"storage.url_file: cannot read {path}: {error.strerror}") from None
    return parse_url(text)


def parse_url(text: str) -> URL:
    """A URL with the driver that we use. Raises ConfigError."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("storage.url: is no database URL; use postgresql://user:password@host/db or sqlite:///path") from None
    if url.drivername in _SQLITE:
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername not in _POSTGRESQL:
        raise ConfigError(f"storage.url: {url.drivername!r} is no database we know; use postgresql:// or sqlite:///")
    query = {}
    for key, value in url.query.items():
        name = _LIBPQ.get(key, key)
        if name is not None:
            query[name] = value
    return url.set(drivername="postgresql+asyncpg", query=query)


def described(url: URL) -> str:
    """The URL for messages, without its password."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
