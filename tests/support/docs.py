"""Fenced blocks of documentation pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page under docs/ in one language, in order."""
    return [text for kind, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if kind == language]


def examples(page: str) -> list[tuple[str, str | None]]:
    """The shell scripts of a page, each with the JSON block after it: what it prints at the end."""
    found: list[tuple[str, str | None]] = []
    for kind, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if kind == "sh":
            found.append((text, None))
        elif kind == "json" and found:
            found[-1] = (found[-1][0], text)
    return found
