"""What the programs of a development stack tell each other: one JSON object per line on standard output."""

from __future__ import annotations

import sys
from typing import Any

import orjson


def emit(kind: str, **fields: Any) -> None:
    """Print one event: `mail` arrived, `ready` at an address."""
    sys.stdout.buffer.write(orjson.dumps({"event": kind, **fields}, default=str) + b"\n")
    sys.stdout.buffer.flush()


def parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None for a line that is none."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
