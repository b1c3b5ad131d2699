"""`koukan config convert FILE…`: router.yaml and gateway.yaml as resources."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import yaml

from koukan.config.files import load_any
from koukan.config.gateway import GatewayConfig
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError


def register(commands: Any) -> None:
    """Add the command to the parser of `koukan`."""
    parser = commands.add_parser("config", help="work on configuration files")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    action = actions.add_parser(
        "convert",
        help="turn router.yaml and gateway.yaml into resources",
        description="Print resources that mean the same as the files. Comments at the top say which Secrets to create first. "
        "Given both files, endpoints that lead from one to the other become references. Exit code 2 when a file is unusable.",
    )
    action.add_argument("files", nargs="+", metavar="FILE", help="router.yaml, gateway.yaml, or both")
    action.add_argument(
        "--router", default="mail", metavar="NAME", help="name of the KoukanRouter (default: %(default)s)"
    )
    action.add_argument(
        "--gateway", default="edge", metavar="NAME", help="name of the KoukanGateway (default: %(default)s)"
    )
    action.add_argument("-n", "--namespace", default="default", help="of all resources (default: %(default)s)")
    action.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    # Imported here, since every command of `koukan` registers this one: a router need not know the resources.
    from koukan_operator.convert import convert
    from koukan_operator.render_command import Plain

    names = (options.router, options.gateway)
    try:
        router, gateway = _load(options.files)
        conversion = convert(router, gateway, names=names, namespace=options.namespace)
    except ConfigError as error:
        sys.stderr.writelines(f"error: {line}\n" for line in str(error).splitlines())
        return 2
    sys.stdout.writelines(f"# {note}\n" for note in conversion.notes)
    for resource in conversion.resources:
        sys.stdout.write("---\n")
        yaml.dump(resource, sys.stdout, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120)
    return 0


def _load(paths: list[str]) -> tuple[RouterConfig | None, GatewayConfig | None]:
    router: RouterConfig | None = None
    gateway: GatewayConfig | None = None
    for path in paths:
        config: RouterConfig | GatewayConfig = load_any(path).config
        if isinstance(config, RouterConfig):
            if router is not None:
                raise ConfigError(f"{path}: is a second router.yaml; convert one at a time")
            router = config
        else:
            if gateway is not None:
                raise ConfigError(f"{path}: is a second gateway.yaml; convert one at a time")
            gateway = config
    return router, gateway
