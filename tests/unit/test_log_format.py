"""Text log lines: a value that could be taken for something else is quoted. Which format and level there are."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from koukan import logs


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("ann@example.net", "ann@example.net"),
        (250, "250"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nbreak", '"line\\nbreak"'),
        ("tab\there", '"tab\\there"'),
        ("nul\0", '"nul\\u0000"'),
        ("non\u00a0breaking", '"non\u00a0breaking"'),
        ("grün", "grün"),
    ],
)
def test_values(value: object, shown: str) -> None:
    record = logging.makeLogRecord({"name": "koukan", "levelname": "INFO", "msg": "event", "fields": {"key": value}})
    line = logs.TextFormatter().format(record)
    assert line.endswith(f" INFO koukan event key={shown}") and "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("KOUKAN_LOG_FORMAT", "xml", "KOUKAN_LOG_FORMAT must be one of text, json, got 'xml'"),
        (
            "KOUKAN_LOG_LEVEL",
            "loud",
            "KOUKAN_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got 'loud'",
        ),
    ],
)
def test_a_format_or_level_that_there_is_not(name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(text)):
        logs.configure(None)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_format_and_level_from_the_environment(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUKAN_LOG_FORMAT", "JSON")
    monkeypatch.setenv("KOUKAN_LOG_LEVEL", "debug")
    logs.configure(None)
    assert root.level == logging.DEBUG and isinstance(root.handlers[0].formatter, logs.JsonFormatter)
