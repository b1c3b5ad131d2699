"""`koukan check` tries what the program would try when it starts: files, directories, certificates, plug-ins, addresses."""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.cli.check import run_check
from koukan.dev.files import prepare

ROUTER: dict[str, Any] = {
    "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:8000"},
    "storage": {"url": "sqlite:///koukan.db"},
    "sender": [{"name": "s", "output_chain": "c"}],
    "rest_endpoint": [{"name": "gateway", "endpoint": "http://127.0.0.1:8001/senders/s/transactions", "sender": "s"}],
    "endpoint": [
        {
            "name": "c",
            "chain": [
                {"filter": "message_builder"},
                {"filter": "router", "destination": {"endpoint": "gateway"}},
                {"filter": "rest_output"},
            ],
        }
    ],
}
GATEWAY: dict[str, Any] = {
    "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:8001"},
    "smtp_output": {"hosts": {"out": {"ehlo_host": "mail.example.com"}}},
    "rest_output": [{"name": "router", "endpoint": "http://127.0.0.1:8000/senders/s/transactions"}],
    "smtp_listener": {"services": [{"addr": ["127.0.0.1", 0], "endpoint": "router", "sender": "s"}]},
}

Change = Callable[[dict[str, Any], Path], None]


def put(*path: str | int) -> Callable[[Any], Change]:
    """Sets a value at a path; "{dir}" in it is the test's directory."""

    def value(new: Any) -> Change:
        def change(document: dict[str, Any], directory: Path) -> None:
            place: Any = document
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = new.format(dir=directory) if isinstance(new, str) else new

        return change

    return value


def with_users(secret: object) -> Change:
    def change(document: dict[str, Any], directory: Path) -> None:
        (directory / "users.json").write_text(json.dumps({"ann": secret}))
        document["smtp_listener"]["services"][0]["auth_secrets"] = str(directory / "users.json")

    return change


def check(document: dict[str, Any], change: Change | None, directory: Path, *, elsewhere: bool = False) -> int:
    copy = json.loads(json.dumps(document))
    prepare(directory)
    (directory / "not-a-certificate.pem").write_text("hello")
    if change is not None:
        change(copy, directory)
    file = directory / "koukan.yaml"
    file.write_text(yaml.safe_dump(copy, sort_keys=False))
    return run_check(argparse.Namespace(file=str(file), elsewhere=elsewhere))


@pytest.mark.parametrize("document", [ROUTER, GATEWAY], ids=["router", "gateway"])
def test_what_would_start_is_ok(document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(document, None, tmp_path) == 0
    assert "ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("document", "change", "text"),
    [
        (ROUTER, put("global")({"spool_directory": "/nowhere"}), "global.spool_directory: no file can be made"),
        (ROUTER, put("storage")({"url_file": "/nowhere"}), "storage.url_file: cannot read /nowhere"),
        (ROUTER, put("storage", "url")("mysql://x/y"), "'mysql' is no database that Koukan knows"),
        (
            ROUTER,
            put("rest_listener", "addr")(["203.0.113.7", 8000]),
            "rest_listener.addr: cannot listen on 203.0.113.7",
        ),
        (ROUTER, put("rest_endpoint", 0, "verify")("{dir}/not-a-certificate.pem"), "it holds no certificate"),
        (ROUTER, put("endpoint", 0, "chain", 2, "verify")("/nowhere.pem"), "/nowhere.pem: cannot be used"),
        (
            GATEWAY,
            put("smtp_output", "hosts", "out", "tls")({"mode": "verify", "ca_file": "/nowhere"}),
            "ca_file /nowhere",
        ),
        (GATEWAY, put("rest_output", 0, "verify")("/nowhere.pem"), "/nowhere.pem: cannot be used"),
        (GATEWAY, with_users("secret"), "user 'ann' must have the sha256 of the password"),
        (GATEWAY, with_users(7), "user 'ann' must have the sha256 of the password"),
        (GATEWAY, put("smtp_listener", "services", 0, "addr")(["203.0.113.7", 25]), "services[0].addr: cannot listen"),
    ],
)
def test_what_would_not_start_is_an_error(
    document: dict[str, Any], change: Change, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(document, change, tmp_path) == 2
    errors = capsys.readouterr().err
    assert text in errors and errors.count("\n") == 1


def test_certificates_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"cert": str(tmp_path / "not-a-certificate.pem"), "key": str(tmp_path / "tls.key")}
    for document, place in ((ROUTER, ["rest_listener"]), (GATEWAY, ["smtp_listener", "services", 0])):

        def change(copy: dict[str, Any], directory: Path, place: list[Any] = place) -> None:
            found: Any = copy
            for key in place:
                found = found[key]
            found.update(bad)

        assert check(document, change, tmp_path) == 2
        assert "not-a-certificate.pem" in capsys.readouterr().err


def test_an_address_in_use_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be the program itself, which runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ["127.0.0.1", taken.getsockname()[1]]
        assert check(ROUTER, put("rest_listener", "addr")(address), tmp_path) == 0
    assert f"warning: rest_listener.addr: 127.0.0.1:{address[1]} is in use" in capsys.readouterr().err


def test_a_user_with_a_hash_is_fine(tmp_path: Path) -> None:
    assert check(GATEWAY, with_users(hashlib.sha256(b"secret").hexdigest().upper()), tmp_path) == 0


def test_a_file_for_another_machine(tmp_path: Path) -> None:
    assert check(ROUTER, put("rest_listener", "addr")(["203.0.113.7", 8000]), tmp_path, elsewhere=True) == 0
