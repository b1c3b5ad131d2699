"""Apply and prune: no write that changes nothing, nothing taken over, nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
from koukan_operator.apply import MANIFEST_HASH, Applier, NameTaken, project
from koukan_operator.cache import Cache
from koukan_operator.cluster import Conflict
from koukan_operator.kinds import Document, Key

from tests.support.api_double import FakeCluster

OWNER: Document = {"kind": "KoukanRouter", "metadata": {"name": "mail", "namespace": "ns", "uid": "owner"}}
LABELS = {"app.kubernetes.io/managed-by": "koukan-operator"}
CONFIG = Key("ConfigMap", "ns", "mail")
DEPLOYMENT = Key("Deployment", "ns", "mail")


def owner_reference(uid: str = "owner", kind: str = "KoukanRouter", name: str = "mail") -> Document:
    return {"apiVersion": "koukan.io/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": True}


def manifest(kind: str, name: str = "mail", **content: Any) -> Document:
    metadata = {"name": name, "namespace": "ns", "labels": LABELS, "ownerReferences": [owner_reference()]}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


def config(text: str = "a") -> Document:
    return manifest("ConfigMap", data={"router.yaml": text})


def deployment(cpu: str = "1000m", image: str = "koukan:1") -> Document:
    return manifest("Deployment", spec={"containers": [{"name": "router", "image": image, "cpu": cpu}]})


class Scene:
    """An API server, the cache that knows it, and the applier between."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cache = Cache()
        self.applier = Applier(self.cluster, self.cache)

    async def apply(self, *manifests: Document) -> list[str]:
        """Apply; answers the writes that it took."""
        self.cluster.calls.clear()
        await self.applier.apply(OWNER, manifests)
        return list(self.cluster.calls)

    def hear(self) -> None:
        """The watches tell of everything that is there."""
        for document in self.cluster.objects.values():
            self.cache.put(document)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_what_is_not_there_is_made_and_what_is_right_is_left_alone(scene: Scene) -> None:
    assert await scene.apply(config(), deployment()) == ["apply ConfigMap ns/mail", "apply Deployment ns/mail"]
    versions = {key: document["metadata"]["resourceVersion"] for key, document in scene.cluster.objects.items()}
    assert await scene.apply(config(), deployment()) == []
    scene.hear()
    assert await scene.apply(config(), deployment()) == []
    assert versions == {key: d["metadata"]["resourceVersion"] for key, d in scene.cluster.objects.items()}


async def test_only_the_manifest_that_changed_is_written(scene: Scene) -> None:
    await scene.apply(config("a"), deployment())
    assert await scene.apply(config("b"), deployment()) == ["apply ConfigMap ns/mail"]
    assert scene.cluster.objects[CONFIG]["data"] == {"router.yaml": "b"}


async def test_nothing_is_written_after_a_restart(scene: Scene) -> None:
    await scene.apply(config(), deployment())
    scene.applier = Applier(scene.cluster, scene.cache)
    assert await scene.apply(config(), deployment()) == []


async def test_drift_is_repaired(scene: Scene) -> None:
    await scene.apply(config())
    scene.cache.put(scene.cluster.put({**scene.cluster.objects[CONFIG], "data": {"router.yaml": "tampered"}}))
    assert await scene.apply(config()) == ["apply ConfigMap ns/mail"]
    assert scene.cluster.objects[CONFIG]["data"] == {"router.yaml": "a"}


async def test_a_field_that_a_manifest_drops_is_removed(scene: Scene) -> None:
    await scene.apply(manifest("ConfigMap", data={"a": "1", "b": "2"}))
    await scene.apply(manifest("ConfigMap", data={"a": "1"}))
    assert scene.cluster.objects[CONFIG]["data"] == {"a": "1"}


async def test_fields_of_others_are_no_drift(scene: Scene) -> None:
    await scene.apply(deployment())
    live = scene.cluster.objects[DEPLOYMENT]
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "7"
    live["spec"]["containers"].insert(0, {"name": "sidecar", "image": "proxy:1"})
    scene.cache.put(scene.cluster.put(live))
    assert await scene.apply(deployment()) == []


def round_up(document: Document) -> None:
    for container in document["spec"]["containers"]:
        container["cpu"] = "1" if container["cpu"] == "1000m" else container["cpu"]


async def test_what_the_server_writes_otherwise_is_no_drift(scene: Scene) -> None:
    scene.cluster.normalise["Deployment"] = round_up
    await scene.apply(deployment())
    assert await scene.apply(deployment()) == []


async def test_a_new_manifest_is_applied_also_where_the_server_writes_things_otherwise(scene: Scene) -> None:
    scene.cluster.normalise["Deployment"] = round_up
    await scene.apply(deployment(image="koukan:1"))
    assert await scene.apply(deployment(image="koukan:2")) == ["apply Deployment ns/mail"]
    assert scene.cluster.objects[DEPLOYMENT]["spec"]["containers"][0]["image"] == "koukan:2"


async def test_an_autoscaler_takes_over_the_pods_that_there_are(scene: Scene) -> None:
    fixed = manifest("Deployment", spec={"replicas": 3, "image": "a"})
    await scene.apply(fixed)
    await scene.apply(manifest("Deployment", spec={"image": "a"}))
    assert scene.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3
    live = scene.cluster.objects[DEPLOYMENT]
    scene.cache.put(scene.cluster.put({**live, "spec": {**live["spec"], "replicas": 7}}))
    assert await scene.apply(manifest("Deployment", spec={"image": "a"})) == []
    await scene.apply(manifest("Deployment", spec={"image": "b"}))
    assert scene.cluster.objects[DEPLOYMENT]["spec"] == {"replicas": 7, "image": "b"}


async def test_what_is_no_longer_wanted_is_pruned(scene: Scene) -> None:
    await scene.apply(config(), deployment())
    assert await scene.apply(config()) == ["delete Deployment ns/mail"]
    assert set(scene.cluster.objects) == {CONFIG}


async def test_what_others_own_is_not_pruned(scene: Scene) -> None:
    theirs = manifest("ConfigMap", "theirs")
    theirs["metadata"]["ownerReferences"] = [owner_reference("other", name="other")]
    scene.cluster.put(theirs)
    unowned = manifest("ConfigMap", "unowned")
    unowned["metadata"]["ownerReferences"] = []
    scene.cluster.put(unowned)
    scene.hear()
    assert await scene.apply() == []


@pytest.mark.parametrize(
    ("references", "owner"),
    [([], "no resource of ours"), ([owner_reference("x", "StatefulSet", "db")], "StatefulSet db")],
)
async def test_an_object_that_is_not_ours_is_refused_before_anything_is_written(
    scene: Scene, references: list[Document], owner: str
) -> None:
    foreign = deployment()
    foreign["metadata"] |= {"labels": {}, "ownerReferences": references}
    scene.cluster.put(foreign)
    with pytest.raises(NameTaken, match=f"Deployment ns/mail exists and belongs to {owner}"):
        await scene.apply(config(), deployment())
    assert scene.cluster.calls == []


async def test_what_a_deleted_resource_of_the_same_name_left_is_waited_for(scene: Scene) -> None:
    left = config()
    left["metadata"]["ownerReferences"] = [owner_reference("deleted")]
    scene.cluster.put(left)
    scene.hear()
    with pytest.raises(Conflict, match="garbage collector"):
        await scene.apply(config())
    scene.cluster.remove(CONFIG)
    assert await scene.apply(config()) == ["apply ConfigMap ns/mail"]


async def test_an_object_that_was_made_anew_by_others_meanwhile_is_not_taken_over(scene: Scene) -> None:
    await scene.apply(config("a"))
    scene.cluster.remove(CONFIG)
    scene.cluster.put({"kind": "ConfigMap", "metadata": {"name": "mail", "namespace": "ns"}, "data": {}})
    with pytest.raises(Conflict):
        await scene.apply(config("b"))
    assert scene.cluster.objects[CONFIG]["data"] == {}


async def test_the_manifest_is_known_by_its_hash(scene: Scene) -> None:
    await scene.apply(config("a"))
    first = scene.cluster.objects[CONFIG]["metadata"]["annotations"][MANIFEST_HASH]
    await scene.apply(config("b"))
    assert scene.cluster.objects[CONFIG]["metadata"]["annotations"][MANIFEST_HASH] != first


@pytest.mark.parametrize(
    ("live", "wanted", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 1}),
        ({"a": 1}, {"b": 1}, {}),
        ([{"name": "b", "x": 1}, {"name": "a", "x": 2}], [{"name": "a"}], [{"name": "a"}]),
        ([{"name": "b"}], [{"name": "a"}], []),
        ([{"p": 1, "q": 2}], [{"p": 3}], [{"p": 1}]),
        ([1, 2], [1], [1, 2]),
        ([{"name": "v", "path": "a"}, {"name": "v", "path": "b"}], [{"name": "v"}] * 2, [{"name": "v"}] * 2),
        (None, {"a": 1}, None),
    ],
)
def test_a_projection_is_what_is_said_about_the_same_things(live: object, wanted: object, found: object) -> None:
    assert project(live, wanted) == found
