"""The port to the cluster over the `kubernetes` client, which blocks: called in a few threads, never on the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from koukan.errors import StartupError
from koukan_operator import metrics
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
from koukan_operator.kinds import KINDS, PAGE, Document, Documents, Key, Kind
from koukan_operator.labels import FIELD_MANAGER
from koukan_operator.queue import jittered

#: calls under way at a time: enough to hide latency, few enough for the API server's fairness
WORKERS = 4
#: seconds to connect, and to wait for an answer
TIMEOUTS = (5.0, 30.0)
#: how often one call is tried before its reconciliation is put off
ATTEMPTS = 4
#: seconds before the second attempt; doubled for each after that, and varied by a half
BACKOFF = 0.25
#: the longest that we wait within a call because the server says so; longer ones go back to the queue
MAX_RETRY_AFTER = 10.0

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"

T = TypeVar("T")


def load_configuration(*, in_cluster: bool) -> client.Configuration:
    """How to reach the API server: the pod's service account, or the current kubeconfig. Raises StartupError."""
    configuration = client.Configuration()
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        advice = "run it in a pod with a service account" if in_cluster else "set KUBECONFIG"
        raise StartupError(f"no access to a cluster: {error}; {advice}") from None
    configuration.connection_pool_maxsize = WORKERS
    # Attempts are ours to count: urllib3 would repeat what a server that is going down refuses, at once and unseen.
    configuration.retries = False
    return configuration


class KubernetesCluster:
    """An API server over HTTPS."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._client = client.ApiClient(configuration)
        self._host = configuration.host.rstrip("/")
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="cluster")
        self._slots = asyncio.Semaphore(WORKERS)

    async def close(self) -> None:
        """Let calls under way end."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def get(self, key: Key) -> Document:
        return await self._call("GET", KINDS[key.kind].path(key.namespace, key.name))

    async def list(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Documents:
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields}
        try:
            found = await self._pages(kind, namespace, query)
        except Gone:
            found = await self._pages(kind, namespace, query)
        for document in found:
            # Items of a list come without what the list says once.
            document["apiVersion"], document["kind"] = kind.api_version, kind.name
        return found

    async def _pages(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Documents:
        found: Documents = []
        token = ""
        while True:
            page = await self._call("GET", kind.path(namespace), {**query, "continue": token})
            found += page["items"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return found

    async def apply(self, manifest: Document) -> Document:
        metadata = manifest["metadata"]
        path = KINDS[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        return await self._call("PATCH", path, {"fieldManager": FIELD_MANAGER, "force": "true"}, manifest, _APPLY)

    async def delete(self, key: Key, uid: str) -> None:
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", KINDS[key.kind].path(key.namespace, key.name), body=body)
        except (NotFound, Conflict):
            return

    async def patch_status(self, key: Key, status: Document) -> Document:
        path = KINDS[key.kind].path(key.namespace, key.name, "status")
        return await self._call("PATCH", path, {"fieldManager": FIELD_MANAGER}, {"status": status}, _MERGE)

    async def create(self, document: Document) -> Document:
        path = KINDS[document["kind"]].path(document["metadata"]["namespace"])
        return await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, document)

    async def replace(self, document: Document) -> Document:
        path = KINDS[document["kind"]].path(document["metadata"]["namespace"], document["metadata"]["name"])
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, document)

    async def served(self, kind: Kind) -> bool:
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
        try:
            found = await self._call("GET", root)
        except NotFound:
            return False
        return any(resource["name"] == kind.plural for resource in found["resources"])

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        content_type: str = _JSON,
    ) -> Document:
        """One call, tried again while what hinders it is temporary."""

        def exchange() -> Document:
            return self._exchange(method, path, query or {}, body, content_type)

        async def attempt() -> Document:
            async with self._slots:
                return await asyncio.get_running_loop().run_in_executor(self._threads, exchange)

        return await persist(attempt)

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], body: Document | None, content_type: str
    ) -> Document:
        """In a thread: one request and its response."""
        headers: dict[str, str] = {"Accept": _JSON, "User-Agent": FIELD_MANAGER}
        if body is not None:
            headers["Content-Type"] = content_type
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        text = urlencode({name: value for name, value in query.items() if value})
        url = f"{self._host}{path}?{text}" if text else f"{self._host}{path}"
        what = f"{method} {path}"
        metrics.API_CALLS.labels(method, _resource(path)).inc()
        try:
            response = self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=TIMEOUTS
            )
            content: bytes = response.read()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise Unavailable(f"{what}: no answer from the API server: {error}") from None
        if response.status >= 300:
            raise _failure(what, response.status, response.headers, content)
        document: Document = json.loads(content)
        return document


async def persist(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, made again after Throttled and Unavailable, ATTEMPTS times at most."""
    for number in range(1, ATTEMPTS):
        try:
            return await attempt()
        except Throttled as error:
            if error.retry_after > MAX_RETRY_AFTER:
                raise
            await asyncio.sleep(max(error.retry_after, jittered(BACKOFF)))
        except Unavailable:
            await asyncio.sleep(jittered(BACKOFF * 2 ** (number - 1)))
    return await attempt()


def _resource(path: str) -> str:
    """The plural of the kind that a path is about, with the subresource: `koukanrouters/status`."""
    parts = path.split("/")
    if "namespaces" not in parts:
        return parts[-1]
    plural, *rest = parts[parts.index("namespaces") + 2 :]
    return f"{plural}/{rest[1]}" if len(rest) > 1 else plural


def _failure(what: str, status: int, headers: Mapping[str, str], content: bytes) -> ClusterError:
    """The error that a response means (Kubernetes API conventions, HTTP status codes)."""
    document = _status(content)
    message = f"{what}: {document.get('message') or f'HTTP status {status}'}"
    if status == 404:
        return NotFound(message)
    if status == 409:
        return Conflict(message)
    if status == 410:
        return Gone(message)
    if status in (401, 403):
        return Forbidden(message)
    # A server that is overloaded or going down says when to come back, with 429 or with 503.
    retry_after = headers.get("Retry-After") or (document.get("details") or {}).get("retryAfterSeconds")
    if status == 429 or (status == 503 and retry_after):
        return Throttled(message, _seconds(retry_after))
    if status >= 500:
        return Unavailable(message)
    return Invalid(message)


def _status(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(value: object) -> float:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 1.0
