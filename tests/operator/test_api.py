"""The client of the API server, against a server that answers as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from koukan_operator import api
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.cluster import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Throttled,
    Unavailable,
)
from koukan_operator.kinds import CERTIFICATE, CONFIG_MAP, ROUTER, Key
from kubernetes.client import Configuration

from koukan.errors import StartupError

KEY = Key("ConfigMap", "ns", "a")
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}


@dataclass
class Exchange:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    authorization: str
    body: Any


@dataclass
class Server:
    """Answers with what is next in `answers`: status, document, headers."""

    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    seen: list[Exchange] = field(default_factory=list)

    def answer(self, status: int, document: Any, **headers: str) -> None:
        self.answers.append((status, document, {name.replace("_", "-"): value for name, value in headers.items()}))

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.seen.append(
            Exchange(
                request.method,
                request.path,
                dict(request.query),
                request.content_type,
                request.headers.get("Authorization", ""),
                json.loads(text) if text else None,
            )
        )
        status, document, headers = self.answers.pop(0)
        return web.Response(status=status, text=json.dumps(document), headers=headers)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesCluster]:
    monkeypatch.setattr(api, "BACKOFF", 0.001)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.api_key["BearerToken"] = "Bearer token"
    configuration.retries = False
    found = KubernetesCluster(configuration)
    yield found
    await found.close()
    await runner.cleanup()


async def test_apply_is_server_side_by_our_manager_with_force(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(200, {**OBJECT, "data": {}})
    assert (await cluster.apply(OBJECT))["data"] == {}
    exchange = server.seen[0]
    assert (exchange.method, exchange.path) == ("PATCH", "/api/v1/namespaces/ns/configmaps/a")
    assert exchange.query == {"fieldManager": "koukan-operator", "force": "true"}
    assert exchange.content_type == "application/apply-patch+yaml"
    assert exchange.authorization == "Bearer token"
    assert exchange.body == OBJECT


async def test_status_is_merged_into_its_subresource(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(200, {})
    await cluster.patch_status(Key("KoukanRouter", "ns", "a"), {"replicas": 1, "serviceUri": None})
    exchange = server.seen[0]
    assert exchange.path == "/apis/koukan.io/v1alpha1/namespaces/ns/koukanrouters/a/status"
    assert exchange.content_type == "application/merge-patch+json"
    assert exchange.body == {"status": {"replicas": 1, "serviceUri": None}}


async def test_deletion_is_of_this_very_object_and_its_absence_is_fine(
    server: Server, cluster: KubernetesCluster
) -> None:
    for status in (200, 404, 409):
        server.answer(status, {})
        await cluster.delete(KEY, "uid")
    assert server.seen[0].body == {"propagationPolicy": "Background", "preconditions": {"uid": "uid"}}


async def test_lists_come_in_pages(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(200, {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]})
    server.answer(200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]})
    found = await cluster.list(CONFIG_MAP, None, "app=x", "type!=y")
    assert [(d["kind"], d["apiVersion"], d["metadata"]["name"]) for d in found] == [
        ("ConfigMap", "v1", "a"),
        ("ConfigMap", "v1", "b"),
    ]
    first, second = (exchange.query for exchange in server.seen)
    assert server.seen[0].path == "/api/v1/configmaps"
    assert (first["labelSelector"], first["fieldSelector"], first["limit"]) == ("app=x", "type!=y", str(api.PAGE))
    assert "continue" not in first
    assert second["continue"] == "more"


async def test_a_list_that_took_too_long_begins_again(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(200, {"metadata": {"continue": "old"}, "items": [{"metadata": {"name": "a"}}]})
    server.answer(410, {"message": "The provided continue parameter is too old"})
    server.answer(200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]})
    assert [d["metadata"]["name"] for d in await cluster.list(ROUTER, "ns")] == ["b"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (400, Invalid),
        (413, Invalid),
        (422, Invalid),
    ],
)
async def test_refusals_have_their_type_and_are_not_repeated(
    server: Server, cluster: KubernetesCluster, status: int, error: type[ClusterError]
) -> None:
    server.answer(status, {"kind": "Status", "message": "spec.replicas: must not be negative"})
    with pytest.raises(error, match=r"PATCH /api/v1/namespaces/ns/configmaps/a: spec.replicas: must not be negative"):
        await cluster.apply(OBJECT)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_failures_of_the_server_are_waited_out(server: Server, cluster: KubernetesCluster, status: int) -> None:
    server.answer(status, "no JSON object")
    server.answer(status, {})
    server.answer(200, OBJECT)
    assert await cluster.get(KEY) == OBJECT
    for _ in range(api.ATTEMPTS):
        server.answer(status, {})
    with pytest.raises(Unavailable):
        await cluster.get(KEY)
    assert len(server.seen) == 3 + api.ATTEMPTS


async def test_the_server_says_when_to_come_again(
    server: Server, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    server.answer(429, {}, Retry_After="3")
    server.answer(503, {"details": {"retryAfterSeconds": 5}})
    server.answer(429, {}, Retry_After="soon")
    server.answer(200, OBJECT)
    assert await cluster.get(KEY) == OBJECT
    assert waits == [3.0, 5.0, 1.0]


async def test_a_long_wait_is_the_queues(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(429, {"message": "later"}, Retry_After="60")
    with pytest.raises(Throttled) as caught:
        await cluster.get(KEY)
    assert caught.value.retry_after == 60
    assert len(server.seen) == 1


async def test_no_answer_at_all_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BACKOFF", 0.001)
    configuration = Configuration(host="http://127.0.0.1:9")
    configuration.retries = False
    found = KubernetesCluster(configuration)
    with pytest.raises(Unavailable, match="no answer from the API server"):
        await found.get(KEY)
    await found.close()


async def test_kinds_that_are_not_served_are_known(server: Server, cluster: KubernetesCluster) -> None:
    server.answer(200, {"resources": [{"name": "koukanrouters"}]})
    assert await cluster.served(ROUTER)
    server.answer(404, {})
    assert not await cluster.served(CERTIFICATE)
    server.answer(200, {"resources": [{"name": "issuers"}]})
    assert not await cluster.served(CERTIFICATE)
    assert [exchange.path for exchange in server.seen][:2] == ["/apis/koukan.io/v1alpha1", "/apis/cert-manager.io/v1"]


async def test_calls_under_way_are_bounded(server: Server, cluster: KubernetesCluster) -> None:
    under_way, peak = 0, 0
    handle = server.handle

    async def slow(request: web.Request) -> web.Response:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return await handle(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = KubernetesCluster(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    for _ in range(20):
        server.answer(200, OBJECT)
    await asyncio.gather(*(found.get(KEY) for _ in range(20)))
    await found.close()
    await runner.cleanup()
    assert 1 < peak <= api.WORKERS


def test_no_way_to_a_cluster_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # The client reads KUBECONFIG when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent/kubeconfig")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StartupError, match="service account"):
        load_configuration(in_cluster=True)
    with pytest.raises(StartupError, match="KUBECONFIG"):
        load_configuration(in_cluster=False)
