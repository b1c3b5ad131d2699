"""`koukan check FILE`: is this a configuration that would start?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.cli.process import EXIT_OK, EXIT_UNUSABLE, print_error
from koukan.cli.trial import try_gateway, try_router
from koukan.config.files import load_any
from koukan.config.gateway import GatewayConfig
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError, StartupError
from koukan.router.chains import check_chains


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help="validate a configuration",
        description="Validate router.yaml or gateway.yaml and try what the program would: files, certificates, plug-ins, "
        "addresses. Exit code 2 for errors and for keys that look misspelt.",
    )
    parser.add_argument("file", metavar="FILE", help="router.yaml or gateway.yaml")
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="the file is for another machine or a pod: do not try its certificates, directories and addresses here",
    )
    parser.set_defaults(run=run_check)


def _tried(config: RouterConfig | GatewayConfig) -> Iterator[str]:
    return try_router(config) if isinstance(config, RouterConfig) else try_gateway(config)


def run_check(options: argparse.Namespace) -> int:
    try:
        loaded = load_any(options.file)
        config = loaded.config
        try:
            if isinstance(config, RouterConfig):
                check_chains(Context(config), Plugins.load(config.modules))
            remarks = [] if options.elsewhere else list(_tried(config))
        except ConfigError as error:
            raise loaded.located(error) from None
    except (ConfigError, StartupError) as error:
        print_error(error)
        return EXIT_UNUSABLE
    for warning in [*loaded.warnings, *remarks]:
        print(f"warning: {warning}", file=sys.stderr)
    for typo in loaded.typos:
        print(f"error: {typo}", file=sys.stderr)
    if loaded.typos:
        return EXIT_UNUSABLE
    print(f"{options.file}: ok")
    return EXIT_OK
