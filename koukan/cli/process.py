"""The one way to start a process: event loop, signals, logging, exit codes.

Exit codes: 0 stopped as told, 1 a failure at run time, 2 it could not start: one clear line each on standard error.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import uvloop

from koukan import logs
from koukan.config.loader import Loaded
from koukan.errors import ConfigError, KoukanError, StartupError
from koukan.lifecycle import Stopping

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_UNUSABLE = 2

#: allocations between collections of the youngest generation; the default of 700 costs a server 5 % of its time,
#: since what it allocates is mostly freed by reference counting
_GC_THRESHOLD = 50_000


class App(Protocol):
    """A program that runs until it is told to stop."""

    stopping: Stopping

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def run(coroutine: Coroutine[Any, Any, int]) -> int:
    """Run a command on a fresh event loop; errors that we raise on purpose become one line and an exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    except (ConfigError, StartupError) as error:
        print_error(error)
        return EXIT_UNUSABLE
    except KoukanError as error:
        print_error(error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED


async def serve(app: App, ready: Callable[[], Coroutine[Any, Any, None]] | None = None) -> int:
    """Start the program, run it until SIGTERM, SIGINT or its own wish to stop, stop it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    if not await _unless_stopped(app, app.start()):
        return EXIT_OK
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    try:
        if ready is None or await _unless_stopped(app, ready()):
            await app.stopping.wait()
    finally:
        await app.stop()
    return EXIT_FAILED if app.stopping.failed else EXIT_OK


async def _unless_stopped(app: App, work: Coroutine[Any, Any, None]) -> bool:
    """Do it to its end. False: the program was told to stop first, and the work has been cancelled."""
    task, told = asyncio.ensure_future(work), asyncio.ensure_future(app.stopping.wait())
    try:
        await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if task.cancelled():
            return False
        await task
        return True
    finally:
        told.cancel()
        task.cancel()


def set_up_logging(loaded: Loaded[Any], stanza: dict[str, Any] | None) -> None:
    """Logging as the configuration says, then what it should hear about itself."""
    try:
        logs.configure(stanza)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ConfigError(f"logging: {error.__cause__ or error}") from None
    for warning in [*loaded.warnings, *loaded.typos]:
        logging.getLogger("koukan.config").warning("%s", warning)


def print_error(error: Exception) -> None:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
