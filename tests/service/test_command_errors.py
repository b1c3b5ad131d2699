"""Commands as a user types them wrongly: one clear line, the right exit code; Ctrl-C at any moment."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

SEND = ["send", "--from", "ann@example.net", "--to", "bob@example.com", "--text", "hello"]
NOBODY = "http://127.0.0.1:1/senders/x/transactions"


async def start(arguments: Sequence[str], directory: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "koukan.cli.main",
        *arguments,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([*SEND, "--url", NOBODY], "error: http://127.0.0.1:1/senders/x/transactions: Cannot connect"),
        ([*SEND, "--url", "nowhere"], "error: nowhere: is no URL of HTTP"),
        ([*SEND, "--url", "ftp://x/y"], "error: ftp://x/y: is no URL of HTTP"),
        ([*SEND, "--url", NOBODY, "--ca-file", "none.pem"], "error: none.pem: cannot be used"),
        ([*SEND, "--url", NOBODY, "--ca-file", "taken"], "it holds no certificate"),
        ([*SEND, "--attach", "none.pdf"], "error: none.pdf: there is no such file"),
        ([*SEND, "--eml", "taken"], "error: --eml is a whole message"),
        (["sink", "--listen", "127.0.0.1:99999"], "must be HOST:PORT, got '127.0.0.1:99999'"),
        (["sink", "--listen", "127.0.0.1:0", "--directory", "taken"], "error: taken: cannot make this directory"),
        (["receiver", "--listen", "127.0.0.1:0", "--directory", "taken/x"], "error: taken/x: cannot make"),
        (["dev", "--directory", "taken"], "taken: cannot make this directory"),
    ],
)
async def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: Sequence[str], text: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    process = await start(arguments, tmp_path)
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    lines = [line for line in errors.decode().splitlines() if not line.startswith(("usage: ", " "))]
    assert process.returncode == 2 and len(lines) == 1 and text in lines[0], errors.decode()


@pytest.mark.parametrize("program", ["sink", "receiver"])
async def test_a_port_in_use(program: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start([program, "--listen", address], tmp_path)
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
    assert process.returncode == 2 and errors.decode().count("\n") == 1 and address in errors.decode()


async def test_ctrl_c_while_a_program_waits_for_its_parts(tmp_path: Path) -> None:
    """A database that accepts connections and says nothing: the start hangs, Ctrl-C ends it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (tmp_path / "router.yaml").write_text(
            f"""
rest_listener: {{addr: [127.0.0.1, 0], session_uri: "http://127.0.0.1:1"}}
storage: {{url: "postgresql://koukan@127.0.0.1:{port}/koukan"}}
sender: [{{name: a, output_chain: out}}]
rest_endpoint: [{{name: next, endpoint: "{NOBODY}"}}]
endpoint: [{{name: out, chain: [{{filter: rest_output, static_endpoint: next}}]}}]
"""
        )
        silent.settimeout(20)
        process = await start(["router", "router.yaml"], tmp_path)
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(15):
                _, errors = await process.communicate()
    assert process.returncode == 0 and "Traceback" not in errors.decode(), errors.decode()


@pytest.mark.parametrize("program", ["router", "gateway"])
async def test_a_file_of_certificates_that_is_none_shows_at_the_start(program: str, tmp_path: Path) -> None:
    listener = 'rest_listener: {addr: [127.0.0.1, 0], session_uri: "http://127.0.0.1:1"}'
    documents = {
        "router": f"""
{listener}
storage: {{url: "sqlite:///{tmp_path}/koukan.db"}}
sender: [{{name: a, output_chain: out}}]
rest_endpoint: [{{name: next, endpoint: "{NOBODY}", verify: none.pem}}]
endpoint: [{{name: out, chain: [{{filter: rest_output, static_endpoint: next}}]}}]
""",
        "gateway": f"""
{listener}
rest_output: [{{name: next, endpoint: "{NOBODY}", verify: none.pem}}]
""",
    }
    (tmp_path / "program.yaml").write_text(documents[program])
    process = await start([program, "program.yaml"], tmp_path)
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 2 and "error: none.pem: cannot be used" in errors.decode(), errors.decode()
