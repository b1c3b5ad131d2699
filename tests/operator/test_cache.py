"""What is kept of the cluster, and who is told of its changes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from koukan_operator.cache import Cache
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import CHAIN, Document, Key, key_of
from koukan_operator.triggers import Triggers

OURS = {"app.kubernetes.io/managed-by": "koukan-operator"}


def document(
    kind: str, name: str = "a", *, version: int = 1, uid: str = "u", owner: str = "", **content: Any
) -> Document:
    metadata: Document = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    if owner:
        metadata["labels"] = OURS
        metadata["ownerReferences"] = [
            {"kind": "KoukanRouter", "name": owner, "uid": f"{owner}-uid", "controller": True}
        ]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


def test_older_news_is_no_news() -> None:
    cache = Cache()
    assert cache.put(document("Service", version=10, spec={"a": 1}))
    assert not cache.put(document("Service", version=9, spec={"a": 0}))
    assert not cache.put(document("Service", version=10, spec={"a": 1}))
    assert cache.get(Key("Service", "ns", "a")) == document("Service", version=10, spec={"a": 1})
    assert cache.put(document("Service", version=11))


def test_an_object_made_anew_is_news_whatever_its_version() -> None:
    cache = Cache()
    cache.put(document("Service", version=10, uid="first"))
    assert cache.put(document("Service", version=2, uid="second"))


def test_the_end_of_an_object_does_not_take_its_successor() -> None:
    cache = Cache()
    key = Key("Service", "ns", "a")
    cache.put(document("Service", uid="second"))
    assert not cache.remove(key, "first")
    assert cache.get(key) is not None
    assert cache.remove(key, "second")
    assert cache.get(key) is None


def test_values_of_secrets_are_not_kept_but_their_changes_show() -> None:
    cache = Cache()
    value = base64.b64encode(b"hunter2").decode()
    cache.put(document("Secret", data={"password": value, "ca.crt": ""}))
    kept = cache.get(Key("Secret", "ns", "a")) or {}
    assert value not in json.dumps(kept)
    assert set(kept["data"]) == {"password", "ca.crt"}
    assert kept["data"]["ca.crt"] == ""
    cache.put(document("Secret", version=2, data={"password": base64.b64encode(b"hunter3").decode()}))
    assert (cache.get(Key("Secret", "ns", "a")) or {})["data"] != kept["data"]


def test_only_our_own_config_maps_are_kept_whole() -> None:
    cache = Cache()
    cache.put(document("ConfigMap", "ours", owner="r", data={"router.yaml": "text"}))
    cache.put(document("ConfigMap", "theirs", data={"secret.txt": "text"}))
    assert (cache.get(Key("ConfigMap", "ns", "ours")) or {})["data"] == {"router.yaml": "text"}
    assert "text" not in (cache.get(Key("ConfigMap", "ns", "theirs")) or {})["data"].values()


def test_what_nobody_reads_is_not_kept() -> None:
    cache = Cache()
    full = document("Service")
    full["metadata"] |= {
        "managedFields": [{"manager": "x"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
    }
    cache.put(full)
    metadata = (cache.get(Key("Service", "ns", "a")) or {})["metadata"]
    assert "managedFields" not in metadata
    assert metadata["annotations"] == {"a": "b"}
    assert full["metadata"]["managedFields"]


def test_what_a_resource_owns_is_found_by_its_uid() -> None:
    cache = Cache()
    cache.put(document("Service", owner="r"))
    unlabelled = document("Service", "b", owner="r")
    unlabelled["metadata"]["labels"] = {}
    cache.put(unlabelled)
    assert cache.owned_by("r-uid") == [Key("Service", "ns", "a")]
    cache.remove(Key("Service", "ns", "a"), "u")
    assert cache.owned_by("r-uid") == []


def attaching(*routers: str, name: str = "news", version: int = 1, **spec: Any) -> Document:
    return document(CHAIN.name, name, version=version, spec={"routerRefs": [{"name": r} for r in routers], **spec})


def test_chains_are_found_by_the_router_that_they_attach_to() -> None:
    cache = Cache()
    cache.put(attaching("a", "b"))
    assert [key_of(found) for found in cache.attached_to(Key("KoukanRouter", "ns", "b"))] == [
        Key(CHAIN.name, "ns", "news")
    ]
    cache.put(attaching("a", version=2))
    assert cache.attached_to(Key("KoukanRouter", "ns", "b")) == []
    assert cache.attached_to(Key("KoukanRouter", "elsewhere", "a")) == []


class Watcher:
    """Triggers, and whom they tell."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.index = ReferenceIndex()
        self.told: list[Key] = []
        self.triggers = Triggers(self.cache, self.index, self._tell)

    async def _tell(self, key: Key) -> None:
        self.told.append(key)

    async def hears(self, found: Document) -> list[Key]:
        self.told.clear()
        await self.triggers.saw(found)
        return list(self.told)


ROUTER = Key("KoukanRouter", "ns", "r")


async def test_a_change_of_what_we_made_concerns_its_owner() -> None:
    watcher = Watcher()
    assert await watcher.hears(document("Deployment", owner="r", status={"replicas": 1})) == [ROUTER]
    assert await watcher.hears(document("Deployment", owner="r", status={"replicas": 1})) == []
    assert await watcher.hears(document("Deployment", owner="r", version=2)) == [ROUTER]
    watcher.told.clear()
    assert await watcher.triggers.lost(Key("Deployment", "ns", "a"), "u")
    assert watcher.told == [ROUTER]


async def test_an_object_that_loses_its_owner_still_concerns_it() -> None:
    watcher = Watcher()
    await watcher.hears(document("ConfigMap", owner="r"))
    assert await watcher.hears(document("ConfigMap", version=2)) == [ROUTER]


async def test_an_object_of_others_concerns_nobody() -> None:
    watcher = Watcher()
    theirs = document("Deployment", owner="r")
    theirs["metadata"]["ownerReferences"][0]["kind"] = "StatefulSet"
    assert await watcher.hears(theirs) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": {"key": "other"}}, True),
        ({"data": {"key": "value", "more": "value"}}, True),
        ({"data": {"key": "value"}, "immutable": True}, False),
    ],
)
async def test_a_secret_concerns_its_users_when_its_content_changes(change: Document, told: bool) -> None:
    watcher = Watcher()
    secret = Key("Secret", "ns", "a")
    watcher.index.set(ROUTER, {secret})
    assert await watcher.hears(document("Secret", data={"key": "value"})) == [ROUTER]
    assert await watcher.hears(document("Secret", version=2, **change)) == ([ROUTER] if told else [])
    watcher.told.clear()
    await watcher.triggers.lost(secret, "u")
    assert watcher.told == [ROUTER]


async def test_a_chain_concerns_itself_and_the_routers_that_it_attaches_to_now_and_did_before() -> None:
    watcher = Watcher()
    key = Key(CHAIN.name, "ns", "news")
    first, second = Key("KoukanRouter", "ns", "first"), Key("KoukanRouter", "ns", "second")
    assert await watcher.hears(attaching("first")) == [first, key]
    assert await watcher.hears(attaching("second", version=2)) == [first, second, key]


async def test_a_status_concerns_only_the_resource_itself() -> None:
    watcher = Watcher()
    key = Key(CHAIN.name, "ns", "news")
    watcher.index.set(ROUTER, {key})
    await watcher.hears(attaching("r"))
    assert await watcher.hears({**attaching("r", version=2), "status": {"observedGeneration": 1}}) == [key]


async def test_a_router_that_comes_concerns_the_chains_that_wait_for_it() -> None:
    watcher = Watcher()
    await watcher.hears(attaching("r"))
    assert await watcher.hears(document("KoukanRouter", "r", spec={})) == [ROUTER, Key(CHAIN.name, "ns", "news")]


async def test_a_list_tells_of_what_has_come_changed_and_gone() -> None:
    watcher = Watcher()
    for name in ("kept", "changed", "gone"):
        await watcher.hears(document("KoukanRouter", name, spec={}))
    known = watcher.cache.uids(CHAIN, None) | dict.fromkeys(map(router_key, ("kept", "changed", "gone")), "u")
    # Made after the list was asked for and heard of before it came: not in the list, and still there.
    await watcher.hears(document("KoukanRouter", "meanwhile", spec={}))
    watcher.told.clear()
    listed = [document("KoukanRouter", "kept", spec={}), document("KoukanRouter", "changed", version=2, spec={"a": 1})]
    assert await watcher.triggers.listed([*listed, document("KoukanRouter", "new", spec={})], known) == 2
    assert sorted(watcher.told) == sorted(map(router_key, ("changed", "gone", "new")))
    assert watcher.cache.get(router_key("meanwhile")) is not None


def router_key(name: str) -> Key:
    return Key("KoukanRouter", "ns", name)
