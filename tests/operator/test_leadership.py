"""Of several operators one acts: the lease, its loss and its release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from koukan_operator import leadership
from koukan_operator.cluster import Unavailable
from koukan_operator.kinds import Key
from koukan_operator.leadership import Leadership

from tests.support.api_double import FakeCluster
from tests.support.operator_process import eventually

LEASE = Key("Lease", "koukan", "koukan-operator")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "INTERVAL", 0.01)


@asynccontextmanager
async def candidate(cluster: FakeCluster, identity: str) -> AsyncIterator[Leadership]:
    found = Leadership(cluster, LEASE, identity)
    task = asyncio.create_task(found.run())
    try:
        async with asyncio.timeout(10):
            yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rounds(cluster: FakeCluster, count: int = 10) -> None:
    """Wait until the lease has been looked at that often."""
    seen = len(cluster.reads) + count

    async def done() -> bool:
        return len(cluster.reads) >= seen

    await eventually(done, pause=0.005)


def holder(cluster: FakeCluster) -> str:
    return str(cluster.objects[LEASE]["spec"]["holderIdentity"])


async def lost(found: Leadership) -> None:
    async def follows() -> bool:
        return not found.leading.is_set()

    await eventually(follows, pause=0.005)


async def test_without_a_lease_everybody_acts() -> None:
    assert Leadership(FakeCluster(), None, "a").leading.is_set()


async def test_the_first_one_acts_and_renews_the_second_waits() -> None:
    cluster = FakeCluster()
    async with candidate(cluster, "a") as first:
        await first.leading.wait()
        acquired = cluster.objects[LEASE]["spec"]
        async with candidate(cluster, "b") as second:
            await rounds(cluster, 20)
            assert not second.leading.is_set()
        assert holder(cluster) == "a"
        spec = cluster.objects[LEASE]["spec"]
        assert spec["acquireTime"] == acquired["acquireTime"]
        assert spec["renewTime"] > acquired["renewTime"]
        assert spec["leaseTransitions"] == 0


async def test_one_that_ends_lets_the_next_go_on_at_once() -> None:
    cluster = FakeCluster()
    async with candidate(cluster, "a") as first:
        await first.leading.wait()
    async with candidate(cluster, "b") as second:
        await rounds(cluster, 3)
        assert not second.leading.is_set()
        await first.release()
        assert not first.leading.is_set()
        await second.leading.wait()
    assert cluster.objects[LEASE]["spec"]["leaseTransitions"] == 1


async def test_one_that_died_is_followed_when_its_lease_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "DURATION", 0.2)
    cluster = FakeCluster()
    async with candidate(cluster, "a") as first:
        await first.leading.wait()
    async with candidate(cluster, "b") as second:
        await second.leading.wait()
    assert holder(cluster) == "b"


async def test_whoever_finds_the_lease_with_another_stops_acting() -> None:
    cluster = FakeCluster()
    async with candidate(cluster, "a") as first:
        await first.leading.wait()
        taken = cluster.objects[LEASE]
        cluster.put({**taken, "spec": {**taken["spec"], "holderIdentity": "b"}})
        await lost(first)


async def test_a_hiccup_of_the_api_server_costs_nothing_a_long_outage_the_lease(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = FakeCluster()
    async with candidate(cluster, "a") as first:
        await first.leading.wait()
        cluster.failures = [Unavailable("no answer")]
        await rounds(cluster, 5)
        assert first.leading.is_set()
        assert "no answer" in caplog.text
        monkeypatch.setattr(leadership, "RENEW_DEADLINE", 0.1)
        cluster.failures = [Unavailable("no answer")] * 10_000
        await lost(first)
        cluster.failures.clear()
        await first.leading.wait()
