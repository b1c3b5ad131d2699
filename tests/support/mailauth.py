"""mailauth, a DKIM implementation for Node.js: installed by npm beside the sources, and asked as a process."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

VERSION = "4.13.3"
_HOME = Path(__file__).parents[2] / ".cache" / "mailauth"
_PROGRAM = Path(__file__).with_suffix(".cjs")
_MODULES = _HOME / "node_modules"


def install() -> None:
    """Install what is not there yet. Raises CalledProcessError, with npm's own words, or FileNotFoundError without npm."""
    _HOME.mkdir(parents=True, exist_ok=True)
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = _MODULES / "mailauth" / "package.json"
        if manifest.exists() and json.loads(manifest.read_text())["version"] == VERSION:
            return
        options = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error"]
        command = ["npm", "install", "--prefix", str(_HOME), *options, f"mailauth@{VERSION}"]
        subprocess.run(command, check=True, timeout=180)


class Mailauth:
    """The process. Use as a context manager."""

    def __enter__(self) -> Self:
        install()
        environment = {**os.environ, "NODE_PATH": str(_MODULES)}
        self._process = subprocess.Popen(
            ["node", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def sign(self, message: bytes, **options: Any) -> bytes:
        """The DKIM-Signature fields by mailauth's dkimSign."""
        answer = self._ask(message, sign=options)
        assert not answer["errors"], answer["errors"]
        signatures: str = answer["signatures"]
        return signatures.encode()

    def verify(self, message: bytes, records: dict[str, str]) -> list[dict[str, Any]]:
        """mailauth's verdicts: `domain`, `result` (pass, fail, neutral, …), `comment`."""
        results: list[dict[str, Any]] = self._ask(message, records=records)["results"]
        return results

    def _ask(self, message: bytes, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"message": base64.b64encode(message).decode(), **request})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
