"""mailauth, a DKIM implementation for Node.js: installed by npm beside the sources, and asked as a process."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Any

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


def sign(message: bytes, **options: Any) -> bytes:
    """The DKIM-Signature fields by mailauth's dkimSign."""
    answer = _ask({"message": base64.b64encode(message).decode(), "sign": options})
    assert not answer["errors"], answer["errors"]
    signatures: str = answer["signatures"]
    return signatures.encode()


def verify(message: bytes, records: dict[str, str]) -> list[dict[str, Any]]:
    """mailauth's verdicts: `domain`, `result` (pass, fail, neutral, …), `comment`."""
    results: list[dict[str, Any]] = _ask({"message": base64.b64encode(message).decode(), "records": records})["results"]
    return results


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(_PROGRAM)],
        input=json.dumps(request).encode(),
        env={**os.environ, "NODE_PATH": str(_MODULES)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
