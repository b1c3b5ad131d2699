"""A bundle of resources is applied, owned, awaited and pruned."""

from __future__ import annotations

import pytest
import yaml
from koukan_operator.bundle import Taken, bring
from koukan_operator.cluster import NotFound
from koukan_operator.kinds import Document, Key, Kind, key_of

from koukan.errors import ConfigError, StartupError

NAMESPACE = "mail"
OWNER = Key("ConfigMap", NAMESPACE, "demo")
ROUTER = Key("KoukanRouter", NAMESPACE, "mail")
CHAIN = Key("OutputChain", NAMESPACE, "out")
READY = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}


def resource(key: Key) -> Document:
    return {"apiVersion": "koukan.io/v1alpha1", "kind": key.kind, "metadata": {"name": key.name}, "spec": {}}


def config_map(*keys: Key) -> Document:
    data = {"resources.yaml": yaml.safe_dump_all([resource(key) for key in keys])}
    metadata = {"name": OWNER.name, "namespace": NAMESPACE, "uid": "u1"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class FakeCluster:
    """Objects by key; a resource is ready once it has been applied `ready_after` times."""

    def __init__(
        self, *documents: Document, ready_after: int = 1, unknown_kinds: int = 0, status: Document = READY
    ) -> None:
        self.objects = {key_of(document): document for document in documents}
        self.applied: list[Key] = []
        self._ready_after = ready_after
        self._unknown_kinds = unknown_kinds
        self._status = status

    async def get(self, key: Key) -> Document:
        if key not in self.objects:
            raise NotFound(f"no {key}")
        return self.objects[key]

    async def apply(self, manifest: Document) -> Document:
        if self._unknown_kinds:
            self._unknown_kinds -= 1
            raise NotFound(f"no kind {manifest['kind']}")
        key = key_of(manifest)
        self.applied.append(key)
        metadata = {**manifest["metadata"], "generation": 1, "uid": f"uid of {key}"}
        status = self._status if self.applied.count(key) >= self._ready_after else {}
        self.objects[key] = {**manifest, "metadata": metadata, "status": status}
        return self.objects[key]

    async def list(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> list[Document]:
        return [
            document for key, document in self.objects.items() if (key.kind, key.namespace) == (kind.name, namespace)
        ]

    async def delete(self, key: Key, uid: str) -> None:
        if self.objects[key]["metadata"]["uid"] == uid:
            del self.objects[key]

    async def patch_status(self, key: Key, status: Document) -> Document:
        raise AssertionError("a bundle writes no status")

    async def create(self, document: Document) -> Document:
        raise AssertionError("a bundle applies")

    async def replace(self, document: Document) -> Document:
        raise AssertionError("a bundle applies")

    async def served(self, kind: Kind) -> bool:
        return True


async def bring_soon(cluster: FakeCluster, timeout: float = 10) -> None:
    await bring(cluster, OWNER, timeout=timeout, poll=0)


async def test_resources_belong_to_the_config_map() -> None:
    cluster = FakeCluster(config_map(ROUTER, CHAIN))
    await bring_soon(cluster)
    for key in (ROUTER, CHAIN):
        assert cluster.objects[key]["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "demo", "uid": "u1"}
        ]


async def test_waits_until_routers_are_ready_but_not_for_chains() -> None:
    cluster = FakeCluster(config_map(ROUTER), ready_after=3)
    await bring_soon(cluster)
    assert cluster.applied.count(ROUTER) == 3
    cluster = FakeCluster(config_map(CHAIN), ready_after=3)
    await bring_soon(cluster)
    assert cluster.applied.count(CHAIN) == 1


async def test_an_old_ready_does_not_count() -> None:
    old = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 0}]}
    with pytest.raises(StartupError, match="has not seen the change yet"):
        await bring_soon(FakeCluster(config_map(ROUTER), status=old), timeout=0.05)


async def test_waits_for_definitions_of_the_same_release() -> None:
    cluster = FakeCluster(config_map(ROUTER), unknown_kinds=2)
    await bring_soon(cluster)
    assert ROUTER in cluster.objects


async def test_the_deadline_says_what_is_missing() -> None:
    cluster = FakeCluster(config_map(ROUTER), unknown_kinds=1_000_000)
    with pytest.raises(StartupError, match=r"KoukanRouter mail/mail: no kind KoukanRouter"):
        await bring_soon(cluster, timeout=0.05)


async def test_what_the_bundle_no_longer_brings_is_deleted() -> None:
    cluster = FakeCluster(config_map(ROUTER, CHAIN))
    await bring_soon(cluster)
    foreign = Key("OutputChain", NAMESPACE, "theirs")
    cluster.objects[foreign] = {**resource(foreign), "metadata": {"name": "theirs", "namespace": NAMESPACE, "uid": "x"}}
    cluster.objects[OWNER] = config_map(ROUTER)
    await bring_soon(cluster)
    assert CHAIN not in cluster.objects
    assert {ROUTER, foreign} <= set(cluster.objects)


async def test_somebody_elses_resource_is_left_alone() -> None:
    theirs = {**resource(ROUTER), "metadata": {"name": "mail", "namespace": NAMESPACE, "uid": "x"}}
    cluster = FakeCluster(config_map(ROUTER), theirs)
    with pytest.raises(Taken, match="KoukanRouter mail/mail exists and is not part of this release"):
        await bring_soon(cluster)
    assert cluster.objects[ROUTER] is theirs


async def test_other_kinds_are_refused() -> None:
    owner = config_map()
    owner["data"] = {"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"}
    with pytest.raises(ConfigError, match=r"a\.yaml: must hold KoukanRouters"):
        await bring_soon(FakeCluster(owner))
