"""`koukan router FILE` and `koukan gateway FILE`: the two programs."""

from __future__ import annotations

import argparse
from typing import Any

from koukan.cli.process import App, run, serve, set_up_logging
from koukan.config.files import load_gateway, load_router
from koukan.config.loader import Loaded
from koukan.errors import ConfigError
from koukan.gateway.app import GatewayApp
from koukan.router.app import RouterApp

_LOGS = (
    "Logs go to standard error, one line an event. KOUKAN_LOG_FORMAT=json in the environment makes each line an object, "
    "KOUKAN_LOG_LEVEL is DEBUG, INFO (default), WARNING or ERROR; the logging stanza of the file goes on top of that."
)


def register(commands: Any) -> None:
    """Add the commands to the parser."""
    router = commands.add_parser("router", help="run a router", description="Run a router until SIGTERM.", epilog=_LOGS)
    router.add_argument("file", metavar="FILE", help="router.yaml")
    router.set_defaults(run=run_router)
    gateway = commands.add_parser(
        "gateway", help="run a gateway", description="Run a gateway until SIGTERM.", epilog=_LOGS
    )
    gateway.add_argument("file", metavar="FILE", help="gateway.yaml")
    gateway.set_defaults(run=run_gateway)


def run_router(options: argparse.Namespace) -> int:
    return run(_router(options.file))


def run_gateway(options: argparse.Namespace) -> int:
    return run(_gateway(options.file))


async def _router(path: str) -> int:
    loaded = load_router(path)
    set_up_logging(loaded, loaded.config.logging)
    return await _serve(RouterApp(loaded.config), loaded)


async def _gateway(path: str) -> int:
    loaded = load_gateway(path)
    set_up_logging(loaded, loaded.config.logging)
    return await _serve(GatewayApp(loaded.config), loaded)


async def _serve(app: App, loaded: Loaded[Any]) -> int:
    try:
        return await serve(app)
    except ConfigError as error:
        raise loaded.located(error) from None
