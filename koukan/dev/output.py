"""What the programs of a development stack tell each other: one JSON object per line on standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import orjson

from koukan.errors import StartupError


def emit(kind: str, **fields: Any) -> None:
    """Print one event: `mail` arrived, `ready` at an address."""
    sys.stdout.buffer.write(orjson.dumps({"event": kind, **fields}, default=str) + b"\n")
    sys.stdout.buffer.flush()


def make_directory(directory: Path) -> None:
    """Make a directory where it is missing. Raises StartupError when it cannot be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"{directory}: cannot make this directory: {error.strerror or error}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StartupError(f"{directory}: cannot write into this directory")


def parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None for a line that is none."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
