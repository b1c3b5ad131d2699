"""`koukan`: the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from koukan.cli import check, db, dev, peers, programs, send

#: group of entry points that add commands; the operator's package, which this one may not import, has one
MORE_COMMANDS = "koukan.commands"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; answers its exit code."""
    parser = argparse.ArgumentParser(
        prog="koukan", description="A mail gateway between SMTP and applications that lives on Kubernetes."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (dev, programs, check, send, peers, db):
        command.register(commands)
    for entry in entry_points(group=MORE_COMMANDS):
        entry.load()(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
