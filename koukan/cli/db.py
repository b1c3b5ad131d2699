"""`koukan db upgrade`: bring a database to this version's schema."""

from __future__ import annotations

import argparse
from typing import Any

from koukan.cli.process import EXIT_OK, run
from koukan.config.files import load_router
from koukan.storage.migrate import upgrade
from koukan.storage.url import database_url


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("db", help="maintain the database")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    action = actions.add_parser(
        "upgrade",
        help="bring the schema to this version",
        description="Bring the database of a router.yaml to this version's schema. Routers do the same when they start.",
    )
    action.add_argument("file", metavar="FILE", help="router.yaml")
    action.set_defaults(run=run_upgrade)


def run_upgrade(options: argparse.Namespace) -> int:
    return run(_upgrade(options.file))


async def _upgrade(path: str) -> int:
    await upgrade(database_url(load_router(path).config.storage))
    print("the schema is up to date")
    return EXIT_OK
