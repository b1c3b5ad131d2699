"""The programs as people start them: what cannot start is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.house import LOOPBACK, free_port

TIMEOUT = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.errors.splitlines()


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "koukan.cli.main", *arguments, stdout=-1, stderr=-1, env={"PATH": os.environ["PATH"]}
    )


async def koukan(*arguments: str) -> Ended:
    process = await start(*arguments)
    async with asyncio.timeout(TIMEOUT):
        output, errors = await process.communicate()
    assert process.returncode is not None
    ended = Ended(process.returncode, output.decode(), errors.decode())
    assert "Traceback" not in ended.errors
    return ended


def router(tmp_path: Path, port: int | None = None, **stanzas: Any) -> str:
    document = {
        "rest_listener": {"addr": [LOOPBACK, port or free_port()], "session_uri": f"http://{LOOPBACK}:{port}"},
        "storage": {"url": f"sqlite:///{tmp_path}/koukan.db", "gc_interval": 60},
        "sender": [{"name": "submission", "output_chain": "out"}],
        "endpoint": [{"name": "out", "chain": [{"filter": "rest_output", "static_endpoint": "http://127.0.0.1:9/"}]}],
        **stanzas,
    }
    return write(tmp_path / "router.yaml", yaml.safe_dump(document, sort_keys=False))


def gateway(tmp_path: Path, rest_port: int, smtp_port: int) -> str:
    document = {
        "rest_listener": {"addr": [LOOPBACK, rest_port], "session_uri": f"http://{LOOPBACK}:{rest_port}"},
        "rest_output": [{"name": "mx", "endpoint": "http://127.0.0.1:9/senders/ingress/transactions"}],
        "smtp_listener": {"services": [{"addr": [LOOPBACK, smtp_port], "endpoint": "mx", "sender": "ingress"}]},
    }
    return write(tmp_path / f"gateway-{rest_port}.yaml", yaml.safe_dump(document, sort_keys=False))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


async def test_check_says_ok(tmp_path: Path) -> None:
    ended = await koukan("check", router(tmp_path))
    assert (ended.code, ended.output, ended.errors) == (0, f"{tmp_path}/router.yaml: ok\n", "")


async def test_check_fails_for_what_looks_misspelt_and_passes_with_a_warning_otherwise(tmp_path: Path) -> None:
    ended = await koukan("check", router(tmp_path, colour="red"))
    assert ended.code == 0 and ended.lines == [f"warning: {tmp_path}/router.yaml:17: unknown key 'colour' is ignored"]
    ended = await koukan("check", router(tmp_path, storagee={}))
    assert ended.code == 2
    assert ended.lines == [
        f"error: {tmp_path}/router.yaml:17: unknown key 'storagee' is ignored; did you mean 'storage'?"
    ]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"storage": {"url": "mysql://db/koukan"}}, "'mysql' is no database that Koukan knows"),
    ({"storage": {"url": "sqlite:////nowhere/at/all/koukan.db"}}, "No such file or directory"),
    ({"storage": {"url": "postgresql://u:s3cret@127.0.0.1:9/koukan"}}, "cannot use the database"),
    ({"sender": [{"name": "a", "output_chain": "out"}] * 2}, "there is another sender 'a'"),
    ({"sender": [{"name": "a", "output_chain": "ou"}]}, "there is no output chain (endpoint) 'ou'"),
    ({"modules": {"sync_filter": {"x": "no.such.module"}}}, "no.such.module"),
    ({"logging": {"version": 3}}, "logging: "),
    ({"rest_listener": {"addr": ["203.0.113.1", 8000], "session_uri": "http://x"}}, "cannot listen on 203.0.113.1"),
    (
        {"rest_listener": {"addr": [LOOPBACK, 0], "session_uri": "http://x", "cert": "/no.pem", "key": "/no.pem"}},
        "/no.pem",
    ),
]


@pytest.mark.parametrize(("stanzas", "reason"), BAD)
async def test_a_router_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, stanzas: dict[str, Any], reason: str
) -> None:
    ended = await koukan("router", router(tmp_path, **stanzas))
    assert ended.code == 2
    [line] = [line for line in ended.lines if line.startswith("error: ")]
    assert reason in line and "s3cret" not in ended.errors


@pytest.mark.parametrize(
    ("command", "text", "reason"),
    [
        ("check", "sender: [", ":1: broken YAML"),
        ("check", None, "cannot read the configuration"),
        ("router", "", "must be a YAML mapping"),
        ("gateway", "sender: [", ":1: broken YAML"),
    ],
)
async def test_a_file_that_cannot_be_used(tmp_path: Path, command: str, text: str | None, reason: str) -> None:
    path = tmp_path / "broken.yaml"
    if text is not None:
        path.write_text(text)
    ended = await koukan(command, str(path))
    assert ended.code == 2 and len(ended.lines) == 1
    assert ended.lines[0].startswith(f"error: {path}") and reason in ended.lines[0]


async def test_a_port_in_use(tmp_path: Path, taken: int) -> None:
    for arguments, what in (
        (("router", router(tmp_path, taken)), "rest_listener"),
        (("gateway", gateway(tmp_path, taken, 0)), "rest_listener"),
        (("gateway", gateway(tmp_path, 0, taken)), "smtp_listener"),
    ):
        ended = await koukan(*arguments)
        assert ended.code == 2
        [line] = [line for line in ended.lines if line.startswith("error: ")]
        assert what in line and str(taken) in line and "in use" in line


async def test_a_router_stops_in_good_order_when_told(tmp_path: Path) -> None:
    port = free_port()
    process = await start("router", router(tmp_path, port))
    assert process.stderr is not None
    async with asyncio.timeout(TIMEOUT):
        while b"koukan.router ready" not in await process.stderr.readline():
            assert process.returncode is None
        # a second one on the same file is refused, and does not disturb the first
        ended = await koukan("router", router(tmp_path))
        assert ended.code == 2 and "in use by another process" in ended.lines[-1]
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == 0 and b"router stopped" in errors


async def test_db_upgrade(tmp_path: Path) -> None:
    for _ in range(2):
        ended = await koukan("db", "upgrade", router(tmp_path))
        assert (ended.code, ended.output) == (0, "the schema is up to date\n")
    ended = await koukan("db", "upgrade", router(tmp_path, storage={"url": "nonsense"}))
    assert ended.code == 2 and ended.lines == [
        "error: storage.url: is no database URL; use postgresql://user:password@host/database or sqlite:///path"
    ]
