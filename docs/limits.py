"""Writes limits.md: `python docs/limits.py`. Every limit that is a constant of the code, from the comment above it.

A limit is a public constant of a number with a `#:` comment above it, or above the run of constants that it stands in. The
comment says its unit and its reason; the value is the one that the program has.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).with_suffix(".md")

_HEAD = """\
# Limits

<!-- made from the comments in koukan/ by `make generate`; do not edit -->

Nothing in Koukan is unbounded. What people need to change is a key of the [configuration files](reference/configuration.md) or
an option of a [filter](reference/filters.md), such as `max_inflight`, `max_message_size`, `limits` of a listener and every
`…_timeout`. The rest are constants of the code, each with its reason; a change of one is a change of the program.
"""

#: what a room's limits are about
_ROOMS = {
    "auth": "SPF and DKIM",
    "blob": "Bodies in memory and on disk",
    "chain": "Filters",
    "clock": "Time",
    "config": "Configuration files",
    "dev": "`koukan dev`, the sample sink and receiver",
    "executor": "Work that would hold up the event loop",
    "gateway": "Gateway",
    "message": "Reading and writing messages",
    "model": "Documents of the REST API",
    "net": "DNS",
    "rest": "REST, both sides",
    "router": "Router",
    "smtp": "SMTP, both sides",
    "storage": "Database",
}
#: the words by which a comment says its unit, before the first stop
_UNITS = {
    "seconds": "s",
    "bytes": "bytes",
    "octets": "bytes",
    "size": "bytes",
    "characters": "characters",
    "bits": "bits",
}
_BINARY = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


@dataclass(frozen=True)
class Limit:
    """One constant. `path` is its dotted path below `koukan`."""

    path: str
    value: float
    comment: str

    @property
    def room(self) -> str:
        return self.path.partition(".")[0]

    @property
    def unit(self) -> str:
        """Empty: it is a number of things."""
        words = re.findall(r"\w+", re.split("[:;.]", self.comment)[0])
        return next((_UNITS[word] for word in words if word in _UNITS), "")

    def row(self) -> str:
        value, unit = f"{self.value}".removesuffix(".0"), self.unit
        if unit == "bytes":
            size, unit = next(((size, name) for size, name in _BINARY if self.value % size == 0), (1, "bytes"))
            value = f"{int(self.value) // size}"
        reason = self.comment[:1].upper() + self.comment[1:].rstrip(".") + "."
        return f"| `{self.path}` | {value} | {unit} | {reason.replace('|', chr(92) + '|')} |"


def limits() -> Iterator[Limit]:
    """Every limit, by module and in the order of its file."""
    for file in sorted((ROOT / "koukan").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for name, comment in commented(file.read_text(encoding="utf-8")):
            value = getattr(import_module(module), name)
            if isinstance(value, (int, float)):
                yield Limit(f"{module.removeprefix('koukan.')}.{name}", value, comment)


def commented(source: str) -> Iterator[tuple[str, str]]:
    """Public constants with the comment that stands above them."""
    lines = source.splitlines()
    above, end = "", -1
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            continue
        start = node.lineno - 1
        own = _comment(lines, start)
        above = own or (above if start == end else "")
        end = node.end_lineno or 0
        if above and target.id.isupper() and not target.id.startswith("_"):
            yield target.id, above


def _comment(lines: list[str], start: int) -> str:
    first = start
    while first and lines[first - 1].startswith("#:"):
        first -= 1
    return " ".join(line.removeprefix("#:").strip() for line in lines[first:start])


def page() -> str:
    """The page, Markdown."""
    lines = [_HEAD]
    for room, found in groupby(limits(), key=lambda limit: limit.room):
        lines += [f"## {_ROOMS[room]}\n", "| constant below `koukan` | value | unit | what it bounds, and why |"]
        lines += ["|---|---|---|---|", *(limit.row() for limit in found), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
