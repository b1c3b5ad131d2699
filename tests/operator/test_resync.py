"""The slow resync, and how it notices watches that have died."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from koukan_operator import handlers, resync
from koukan_operator.cache import Cache
from koukan_operator.cluster import NotFound, Unavailable
from koukan_operator.handlers import Watches
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import CHAIN, DEPLOYMENT, ROUTER, SECRET, Key, key_of
from koukan_operator.resync import Resync, selectors_of
from koukan_operator.triggers import Triggers
from kubernetes.client import Configuration

from tests.support.api_double import FakeCluster
from tests.support.mail_resources import chain, router, secret
from tests.support.operator_process import eventually


class Scene:
    def __init__(self, *namespaces: str) -> None:
        self.cluster = FakeCluster()
        self.cluster.unserved = {"Certificate", "PodMonitor"}
        self.cache = Cache()
        self.told: list[Key] = []
        self.triggers = Triggers(self.cache, ReferenceIndex(), self._tell)
        self.resync = Resync(self.cluster, self.cache, self.triggers, self._tell, namespaces)

    async def _tell(self, key: Key, delay: float = 0) -> None:
        self.told.append(key)


async def test_everything_that_is_served_is_listed() -> None:
    scene = Scene()
    assert await scene.resync.find_kinds() == frozenset()
    assert not {"Certificate", "PodMonitor"} & {kind.name for kind in scene.resync.kinds}
    scene.cluster.unserved = {"PodMonitor"}
    assert await scene.resync.find_kinds() == {"cert-manager.io/v1"}
    scene.cluster.put(router())
    scene.cluster.put(secret())
    await scene.resync.once()
    assert scene.told == [key_of(router())]
    assert scene.cache.get(key_of(secret())) is not None


async def test_without_the_definitions_it_says_where_they_are() -> None:
    scene = Scene()
    scene.cluster.unserved.add("OutputChain")
    with pytest.raises(NotFound, match=r"no outputchains.koukan.io; install the chart's CRDs"):
        await scene.resync.find_kinds()


async def test_only_the_namespaces_that_are_served_are_listed() -> None:
    scene = Scene("mail", "staging")
    await scene.resync.find_kinds()
    for namespace in ("mail", "staging", "elsewhere"):
        scene.cluster.put(router(namespace=namespace))
    await scene.resync.once()
    assert {key.namespace for key in scene.cache.keys(ROUTER)} == {"mail", "staging"}


async def test_what_a_watch_missed_is_found() -> None:
    scene = Scene()
    await scene.resync.find_kinds()
    scene.cluster.put(router())
    scene.cluster.put(chain("a"))
    await scene.resync.once()
    scene.told.clear()
    scene.cluster.remove(key_of(chain("a")))
    scene.cluster.put(router(replicas=3))
    await scene.resync.once()
    assert sorted(scene.told) == [key_of(router()), key_of(chain("a"))]
    assert scene.cache.get(key_of(chain("a"))) is None


def test_lists_and_watches_ask_only_for_what_matters() -> None:
    assert selectors_of(ROUTER) == ("", "")
    assert selectors_of(SECRET) == ("", "type!=helm.sh/release.v1")
    assert selectors_of(DEPLOYMENT) == ("app.kubernetes.io/managed-by=koukan-operator", "")


async def test_a_watch_that_does_not_tell_what_a_list_told_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 50.0)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    scene = Scene()
    await scene.resync.find_kinds()
    scene.cluster.put(router())
    await scene.resync.once()
    scene.resync.trust()
    assert scene.resync.dead_watches() == []
    scene.cluster.put(router(replicas=3))
    scene.cluster.put(chain("a"))
    await scene.resync.once()
    assert scene.resync.dead_watches() == []  # the watch may still tell
    scene.resync.heard(CHAIN)
    for _ in range(3):
        next(clock)
    assert scene.resync.dead_watches() == ["KoukanRouter"]
    scene.resync.heard(ROUTER)
    assert scene.resync.dead_watches() == []


async def test_it_looks_at_everything_again_now_and_then_and_outlives_failures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resync, "INTERVAL", 0.01)
    scene = Scene()
    await scene.resync.find_kinds()
    scene.cluster.put(router())
    await scene.resync.once()
    scene.told.clear()
    scene.cluster.failures = [Unavailable("no answer")]
    task = asyncio.create_task(scene.resync.run())

    async def told() -> bool:
        return scene.told.count(key_of(router())) >= 2

    await eventually(told, pause=0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "no answer" in caplog.text


async def test_events_reach_the_cache_and_a_watch_that_starts_anew_asks_for_a_resync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    asked: list[bool] = []
    monkeypatch.setattr(scene.resync, "ask", lambda: asked.append(True))
    watches = Watches(Configuration, scene.triggers, scene.resync, ())
    document = scene.cluster.put(router())
    await watches.on_event(ROUTER, {"type": None, "object": {**document, "kind": None}})  # lists leave the kind out
    assert scene.told == [key_of(router())]
    assert asked == [True]
    monkeypatch.setattr(handlers, "FIRST_LISTING", 1e12)
    await watches.on_event(ROUTER, {"type": "DELETED", "object": document})
    assert scene.cache.get(key_of(router())) is None
    await watches.on_event(ROUTER, {"type": None, "object": document})
    assert asked == [True]


async def test_watches_log_in_with_the_token_of_the_moment() -> None:
    tokens = iter(["Bearer first", "Bearer second"])

    def connect() -> Configuration:
        configuration = Configuration(host="https://127.0.0.1:6443")
        configuration.api_key["BearerToken"] = next(tokens)
        return configuration

    scene = Scene()
    watches = Watches(connect, scene.triggers, scene.resync, ())
    found = [await watches.login() for _ in range(2)]
    assert [(info.scheme, info.token, info.server) for info in found] == [
        ("Bearer", "first", "https://127.0.0.1:6443"),
        ("Bearer", "second", "https://127.0.0.1:6443"),
    ]
