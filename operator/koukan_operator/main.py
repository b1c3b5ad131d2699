"""`koukan-operator`: the commands."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from koukan import logs
from koukan.errors import ConfigError, KoukanError, StartupError
from koukan.model import HostPort
from koukan_operator import render_command
from koukan_operator.app import OperatorApp, RunOptions
from koukan_operator.kinds import LEASE, Key
from koukan_operator.labels import FIELD_MANAGER
from koukan_operator.settings import OperatorSettings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_UNUSABLE = 2

#: of routers and gateways, unless the chart or the resource says otherwise
DEFAULT_IMAGE = "koukan:latest"
LISTEN = "0.0.0.0:8080"
#: on a developer's machine: whatever is free, for nobody but the developer
DEV_LISTEN = "127.0.0.1:0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; answers its exit code."""
    parser = argparse.ArgumentParser(
        prog="koukan-operator", description="KoukanRouter, KoukanGateway and OutputChain become running mail gateways."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    register_run(commands)
    render_command.register(commands, add_settings, settings_of)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except (ConfigError, StartupError) as error:
        return _fail(error, EXIT_UNUSABLE)
    except KoukanError as error:
        return _fail(error, EXIT_FAILED)
    return code


def register_run(commands: Any) -> None:
    """Add `run` to the parser."""
    run = commands.add_parser("run", help="run the operator", description="Run the operator until SIGTERM.")
    run.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="serve this namespace; repeatable or a list with commas; default: all of them",
    )
    run.add_argument("--dev", action="store_true", help="use the current kubeconfig, and no lease")
    run.add_argument("--listen", metavar="ADDRESS:PORT", help=f"probes and metrics; default: {LISTEN}")
    run.add_argument("--lease", metavar="NAMESPACE/NAME", help=f"default: $POD_NAMESPACE/{FIELD_MANAGER}")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    run.add_argument("--log-format", choices=("json", "text"), help="default: json, text with --dev")
    add_settings(run)
    run.set_defaults(run=run_operator)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that become OperatorSettings."""
    parser.add_argument("--image", default=os.environ.get("KOUKAN_IMAGE", DEFAULT_IMAGE), help="default: $KOUKAN_IMAGE")
    parser.add_argument(
        "--image-pull-policy", default="IfNotPresent", choices=("Always", "IfNotPresent", "Never"), metavar="POLICY"
    )
    parser.add_argument("--image-pull-secret", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--cluster-domain", default="cluster.local", metavar="DOMAIN", help="default: %(default)s")


def settings_of(options: argparse.Namespace) -> OperatorSettings:
    """The settings that the options say."""
    return OperatorSettings(
        image=options.image,
        image_pull_policy=options.image_pull_policy,
        image_pull_secrets=tuple(options.image_pull_secret),
        cluster_domain=options.cluster_domain,
    )


def run_operator(options: argparse.Namespace) -> int:
    """`koukan-operator run`."""
    logs.configure(_logging(options))
    listen = options.listen or (DEV_LISTEN if options.dev else LISTEN)
    run_options = RunOptions(
        settings=settings_of(options),
        listen=_address(listen),
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        namespaces=[name for given in options.namespace for name in given.split(",") if name],
        in_cluster=not options.dev,
        lease=_lease(options),
    )
    asyncio.run(_serve(run_options))
    return EXIT_OK


async def _serve(options: RunOptions) -> None:
    await OperatorApp(options).run()


def _lease(options: argparse.Namespace) -> Key | None:
    given = options.lease
    if given is None:
        namespace = "" if options.dev else os.environ.get("POD_NAMESPACE", "")
        return Key(LEASE.name, namespace, FIELD_MANAGER) if namespace else None
    namespace, _, name = given.partition("/")
    if not namespace or not name:
        raise ConfigError(f"--lease: {given!r} must be NAMESPACE/NAME")
    return Key(LEASE.name, namespace, name)


def _address(text: str) -> HostPort:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen: {text!r} must be ADDRESS:PORT")
    return HostPort(host.strip("[]"), int(port))


def _logging(options: argparse.Namespace) -> dict[str, Any]:
    os.environ["KOUKAN_LOG_FORMAT"] = options.log_format or ("text" if options.dev else "json")
    os.environ["KOUKAN_LOG_LEVEL"] = options.log_level
    # kopf tells at INFO of each attempt to log in, and of every handler's success.
    quiet = "DEBUG" if options.log_level == "debug" else "WARNING"
    return {"loggers": {"kopf": {"level": quiet}, "urllib3": {"level": "WARNING"}}}


def _fail(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    logging.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
