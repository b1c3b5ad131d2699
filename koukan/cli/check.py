"""`koukan check FILE`: is this a configuration that would start?"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.cli.process import EXIT_OK, EXIT_UNUSABLE, print_error
from koukan.config.files import load_any
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError
from koukan.router.chains import check_chains


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help="validate a configuration",
        description="Validate router.yaml or gateway.yaml. Exit code 2 for errors and for keys that look misspelt.",
    )
    parser.add_argument("file", metavar="FILE", help="router.yaml or gateway.yaml")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    try:
        loaded = load_any(options.file)
        try:
            if isinstance(loaded.config, RouterConfig):
                check_chains(Context(loaded.config), Plugins.load(loaded.config.modules))
        except ConfigError as error:
            raise loaded.located(error) from None
    except ConfigError as error:
        print_error(error)
        return EXIT_UNUSABLE
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for typo in loaded.typos:
        print(f"error: {typo}", file=sys.stderr)
    if loaded.typos:
        return EXIT_UNUSABLE
    print(f"{options.file}: ok")
    return EXIT_OK
