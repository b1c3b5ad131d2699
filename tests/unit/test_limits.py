"""docs/limits.md: every limit of the code, with the value that it has."""

from __future__ import annotations

from importlib import import_module

import pytest

from docs import limits
from tests.support.docs import ROOT

PAGE = ROOT / "docs/limits.md"
_SIZES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def rows() -> list[list[str]]:
    """The cells of every limit on the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]


def test_the_page_is_in_step() -> None:
    assert PAGE.read_text(encoding="utf-8") == limits.page(), "out of step with koukan/: run `make generate`"


def test_every_listed_constant_has_the_value_that_stands_there() -> None:
    assert len(rows()) > 80
    for path, value, unit, _ in rows():
        module, _, name = path.strip("`").rpartition(".")
        assert getattr(import_module(f"koukan.{module}"), name) == float(value) * _SIZES.get(unit, 1), path


def test_every_limit_says_what_it_bounds_and_one_of_time_or_size_has_its_unit() -> None:
    for path, _, unit, reason in rows():
        assert len(reason.split()) > 2, path
        assert unit or not path.strip("`").endswith(("TIMEOUT", "TTL", "SECONDS", "DELAY", "PAUSE", "_BYTES")), path


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("#: seconds of it\nTIMEOUT = 3\n", [("TIMEOUT", "seconds of it")]),
        ("#: of both,\n#: in words\nA = 1\nB = 2\n\nC = 3\n", [("A", "of both, in words"), ("B", "of both, in words")]),
        ("#: typed\nA: int = 1\n", [("A", "typed")]),
        ("# seconds\nA = 1\n#: private\n_B = 2\n#: no constant\nc = 3\n", []),
        ("#: over lines\nA = (\n    1\n    + 2\n)\nB = 3\n", [("A", "over lines"), ("B", "over lines")]),
    ],
)
def test_public_constants_with_a_comment_are_found(source: str, found: list[tuple[str, str]]) -> None:
    assert list(limits.commented(source)) == found


@pytest.mark.parametrize(
    ("limit", "row"),
    [
        (
            limits.Limit("net.x.A", 5.0, "seconds an answer is kept: why"),
            "| `net.x.A` | 5 | s | Seconds an answer is kept: why. |",
        ),
        (
            limits.Limit("net.x.A", 65536, "bodies up to this size"),
            "| `net.x.A` | 64 | KiB | Bodies up to this size. |",
        ),
        (limits.Limit("net.x.A", 1232, "octets, a|b"), "| `net.x.A` | 1232 | bytes | Octets, a\\|b. |"),
        (
            limits.Limit("net.x.A", 0.5, "part of it; some seconds"),
            "| `net.x.A` | 0.5 |  | Part of it; some seconds. |",
        ),
    ],
)
def test_a_row_has_the_unit_that_the_comment_says(limit: limits.Limit, row: str) -> None:
    assert limit.row() == row
