"""200 routers and 500 chains: how long, how much memory, how many requests."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.kinds import CONFIG_MAP, DEPLOYMENT, OWNED_SELECTOR, ROUTER, Document

from tests.support.commands import kubectl
from tests.support.mail_resources import as_yaml, chain, router, secret
from tests.support.operator_process import OperatorProcess, eventually, operator

pytestmark = pytest.mark.cluster

ROUTERS = 200
#: two that each router's senders name, and one that attaches itself to every second router
CHAINS = 500
EDITS = 20
#: promises: resident bytes, and seconds from the edit of a chain to the configuration of its router
MAX_RESIDENT = 150 * 1024 * 1024
MAX_EDIT_SECONDS = 3.0
#: ConfigMap and Deployment, and what the router's status has to say about its rollout
MAX_CALLS_PER_EDIT = 6.0
#: seconds for everything, on a machine of two cores that also runs the API server, its database and controllers
MAX_SECONDS = 240.0


def resources(namespace: str) -> list[Document]:
    documents: list[Document] = [secret(namespace=namespace)]
    for number in range(ROUTERS):
        names = (f"a{number}", f"b{number}")
        documents += [chain(name, f"{name}.example", namespace) for name in names]
        if number % 2 == 0:
            attached = {"routerRefs": [{"name": f"r{number}"}], "senders": [{"name": f"c{number}"}]}
            documents.append(chain(f"c{number}", f"c{number}.example", namespace, **attached))
        documents.append(router(f"r{number}", names, namespace))
    assert len(documents) == 1 + ROUTERS + CHAINS
    return documents


def write(documents: Iterable[Document]) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=as_yaml(*documents), timeout=300)


class Figures:
    """A table of what was measured."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, what: str, figure: str) -> None:
        self.rows.append((what, figure))

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.rows)
        return "\n".join(f"| {what:<{width}} | {figure:>12} |" for what, figure in self.rows)


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesCluster]:
    found = KubernetesCluster(load_configuration(in_cluster=False))
    yield found
    await found.close()


async def all_made(cluster: KubernetesCluster, namespace: str) -> bool:
    found = await cluster.list(DEPLOYMENT, namespace, OWNED_SELECTOR)
    if len(found) < ROUTERS:
        return False
    routers = await cluster.list(ROUTER, namespace)
    return all((document.get("status") or {}).get("conditions") for document in routers)


async def idle(process: OperatorProcess) -> bool:
    """Whether it has asked the API server for nothing for two seconds."""
    calls = await process.api_calls()
    await asyncio.sleep(2)
    return await process.api_calls() == calls


async def edit(cluster: KubernetesCluster, namespace: str, number: int) -> float:
    """Edit a chain; answers how long it took to reach its router's configuration."""
    started = time.monotonic()
    write([chain(f"a{number}", f"edited{number}.example", namespace)])

    async def arrived() -> bool:
        selector = f"{OWNED_SELECTOR},app.kubernetes.io/instance=r{number}"
        found = await cluster.list(CONFIG_MAP, namespace, selector)
        return any(f"edited{number}.example" in text for d in found for text in d["data"].values())

    await eventually(arrived, within=30, pause=0.02)
    return time.monotonic() - started


async def test_two_hundred_routers_and_five_hundred_chains(
    cluster: KubernetesCluster, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = Figures()
    write(resources(namespace))
    arguments = ("--namespace", namespace)
    started = time.monotonic()
    async with operator(tmp_path / "first.log", *arguments) as process:
        await eventually(lambda: all_made(cluster, namespace), within=MAX_SECONDS, pause=1)
        figures.add("everything made, seconds", f"{time.monotonic() - started:.1f}")
        await eventually(lambda: idle(process), within=60)
        calls = await process.api_calls()
        figures.add("requests for that, per resource", f"{calls / (ROUTERS + CHAINS):.1f}")
        figures.add("CPU seconds of the operator", f"{process.cpu_seconds:.1f}")
        times = [await edit(cluster, namespace, number) for number in range(0, EDITS * 2, 2)]
        await eventually(lambda: idle(process), within=60)
        per_edit = (await process.api_calls() - calls) / EDITS
        figures.add("chain edit to ConfigMap, median seconds", f"{statistics.median(times):.2f}")
        figures.add("chain edit to ConfigMap, longest", f"{max(times):.2f}")
        figures.add("requests per chain edit", f"{per_edit:.1f}")
        resident = process.resident
        figures.add("resident memory, MiB", f"{resident / 2**20:.0f}")
        assert "Traceback" not in process.log
    started = time.monotonic()
    async with operator(tmp_path / "second.log", *arguments) as process:
        await eventually(lambda: idle(process), within=120)
        figures.add("restart until quiet, seconds", f"{time.monotonic() - started - 2:.1f}")
        figures.add("requests of a restart", f"{await process.api_calls():.0f}")
        resident = max(resident, process.resident)
        figures.add("resident memory after it, MiB", f"{process.resident / 2**20:.0f}")
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    assert resident <= MAX_RESIDENT
    assert max(times) <= MAX_EDIT_SECONDS
    assert per_edit <= MAX_CALLS_PER_EDIT
