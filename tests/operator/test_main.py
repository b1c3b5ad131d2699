"""The command: its options, its errors, and the process without a cluster."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from koukan_operator import main as module
from koukan_operator.app import RunOptions
from koukan_operator.kinds import Key
from koukan_operator.main import main

from koukan.model import HostPort
from tests.support.operator_process import PATIENCE, eventually, spawned, start


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """What `run` would have started."""
    seen: list[RunOptions] = []

    async def note(options: RunOptions) -> None:
        seen.append(options)

    monkeypatch.setattr(module, "_serve", note)
    monkeypatch.setattr(module.logs, "configure", lambda _: None)
    return seen


def test_options_in_a_pod(started: list[RunOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "koukan")
    arguments = [
        "run",
        "--namespace=a",
        "--namespace=b,c",
        "--image=i:1",
        "--image-pull-secret=s",
        "--cluster-domain=d",
    ]
    assert main(arguments) == 0
    options = started[0]
    assert list(options.namespaces) == ["a", "b", "c"]
    assert options.in_cluster
    assert options.listen == HostPort("0.0.0.0", 8080)
    assert options.lease == Key("Lease", "koukan", "koukan-operator")
    assert (options.settings.image, options.settings.cluster_domain) == ("i:1", "d")
    assert options.settings.image_pull_secrets == ("s",)


def test_options_of_a_developer(started: list[RunOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "koukan")
    assert main(["run", "--dev"]) == 0
    assert (started[0].lease, started[0].in_cluster) == (None, False)
    assert started[0].listen == HostPort("127.0.0.1", 0)
    assert main(["run", "--dev", "--lease=ns/l", "--listen=[::1]:9000"]) == 0
    assert started[1].lease == Key("Lease", "ns", "l")
    assert started[1].listen == HostPort("::1", 9000)
    assert started[0].identity != started[1].identity


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        (["--lease=x"], "--lease: 'x' must be NAMESPACE/NAME"),
        (["--listen=8080"], "--listen: '8080' must be ADDRESS:PORT"),
        (["--listen=a:99999"], "--listen"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], sign: str, started: list[RunOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sign in error
    assert error.count("\n") == 1


def test_no_cluster_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The client reads KUBECONFIG when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent/kubeconfig")
    monkeypatch.setattr(module.logs, "configure", lambda _: None)
    assert main(["run", "--dev"]) == 2
    assert "error: no access to a cluster" in capsys.readouterr().err


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: t}}]
"""


async def test_it_waits_for_an_api_server_and_ends_when_told(tmp_path: Path) -> None:
    config, log = tmp_path / "kubeconfig", tmp_path / "log"
    config.write_text(KUBECONFIG, encoding="utf-8")
    async with spawned(log, KUBECONFIG=str(config)) as process:

        async def waits() -> bool:
            return "waiting for the API server" in process.log

        await eventually(waits)
        assert await process.get("/healthz") == (200, "ok\n")
        assert await process.get("/readyz") == (503, "the cluster has not been listed yet\n")
        assert "koukan_operator_queue_length" in await process.metrics()
        assert await process.stop() == 0
        assert "Traceback" not in process.log


async def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    config, log = tmp_path / "kubeconfig", tmp_path / "log"
    config.write_text(KUBECONFIG, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await start(log, f"--listen=127.0.0.1:{taken.getsockname()[1]}", KUBECONFIG=str(config))
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 2
    assert "error: --listen: cannot listen on 127.0.0.1" in log.read_text(encoding="utf-8")
    assert "Traceback" not in log.read_text(encoding="utf-8")
