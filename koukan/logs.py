"""Logging: one line per event, text or JSON; message content is never logged."""

from __future__ import annotations

import logging
import logging.config
import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import orjson

#: chatty libraries that log content or every exchange at low levels
_QUIET = ("hpack", "mail.log", "aiosqlite", "sqlalchemy", "asyncio", "aiohttp.access")


#: values that stand in a line of text as they are
_PLAIN = re.compile(r'[^\s"=\x00-\x1f]+')


def event(logger: logging.Logger, level: int, message: str, **fields: object) -> None:
    """One line with fields: `message key=value …` as text, an object as JSON. Fields that are None are left out."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={"fields": {k: v for k, v in fields.items() if v is not None}})


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO koukan.router message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name} {record.getMessage()}"
        fields: dict[str, Any] = getattr(record, "fields", {})
        for key, value in fields.items():
            line += f" {key}={_quoted(value)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        # Our own values (a Response, a HostPort) go by their text, as in the other format.
        return orjson.dumps(document, default=str, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()


_FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def configure(config: dict[str, Any] | None) -> None:
    """Set logging up for a program: the `logging` stanza over our defaults.

    `KOUKAN_LOG_FORMAT` is `text` (default) or `json`, `KOUKAN_LOG_LEVEL` a level name. Raises ValueError for other values, and
    for a stanza that logging.config.dictConfig refuses.
    """
    formatter = _FORMATTERS[_chosen("KOUKAN_LOG_FORMAT", "text", _FORMATTERS)]()
    level = _chosen("KOUKAN_LOG_LEVEL", "INFO", _LEVELS)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if config:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **config})


def _chosen(name: str, default: str, choices: Collection[str]) -> str:
    """The value of an environment variable as it is spelt in `choices`. Raises ValueError for what is none of them."""
    given = os.environ.get(name) or default
    for choice in choices:
        if given.lower() == choice.lower():
            return choice
    raise ValueError(f"{name} must be one of {', '.join(choices)}, got {given!r}")


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else orjson.dumps(text).decode()
