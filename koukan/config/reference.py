"""`python -m koukan.config.reference docs/reference` writes the reference pages (`make generate`).

They are made from the configuration's types; tests check that they are in step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from koukan.config.reference_files import configuration_page
from koukan.config.reference_filters import filters_page

PAGES: Mapping[str, Callable[[], str]] = {"configuration.md": configuration_page, "filters.md": filters_page}


def write(directory: Path) -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
