"""Text log lines: a value that could be taken for something else is quoted."""

from __future__ import annotations

import logging

import pytest

from koukan.logs import TextFormatter


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
    line = TextFormatter().format(record)
    assert line.endswith(f" INFO koukan event key={shown}") and "\n" not in line
