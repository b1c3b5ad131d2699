"""An API server in memory, behind the operator's port: apply, uids, resource versions, status, and failures on request."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

from koukan_operator.cluster import Cluster, ClusterError, Conflict, NotFound
from koukan_operator.kinds import KINDS, Document, Documents, Key, Kind, key_of

Normalise = Callable[[Document], None]


class FakeCluster(Cluster):
    """Holds objects. `calls` has every write as `apply ConfigMap mail/a`, `reads` every get."""

    def __init__(self) -> None:
        self.objects: dict[Key, Document] = {}
        self.calls: list[str] = []
        self.reads: list[str] = []
        #: raised by the next calls, one each
        self.failures: list[ClusterError] = []
        #: what the server does to an object before it is stored, by kind
        self.normalise: dict[str, Normalise] = {}
        #: kinds that it does not serve
        self.unserved: set[str] = set()
        self._applied: dict[Key, Document] = {}
        self._versions = itertools.count(1)

    def put(self, document: Document) -> Document:
        """Somebody else creates or changes an object."""
        key = key_of(document)
        known = self.objects.get(key)
        uid = known["metadata"]["uid"] if known else f"uid-{next(self._versions)}"
        generation = known["metadata"]["generation"] if known else 0
        if known is None or known.get("spec") != document.get("spec"):
            generation += 1
        stored = copy.deepcopy(document)
        stored["metadata"] |= {"uid": uid, "generation": generation, "resourceVersion": str(next(self._versions))}
        self.objects[key] = stored
        return copy.deepcopy(stored)

    def remove(self, key: Key) -> Document:
        """Somebody else deletes an object."""
        self._applied.pop(key, None)
        return self.objects.pop(key)

    async def get(self, key: Key) -> Document:
        self._fail()
        self.reads.append(str(key))
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        return copy.deepcopy(self.objects[key])

    async def list(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Documents:
        self._fail()
        name, _, value = selector.partition("=")
        return [
            copy.deepcopy(document)
            for key, document in sorted(self.objects.items())
            if key.kind == kind.name
            and namespace in (None, key.namespace)
            and (not selector or document["metadata"].get("labels", {}).get(name) == value)
        ]

    async def apply(self, manifest: Document) -> Document:
        self._fail()
        key = key_of(manifest)
        self.calls.append(f"apply {key}")
        live = self.objects.get(key)
        uid = manifest["metadata"].get("uid")
        if uid is not None and (live is None or live["metadata"]["uid"] != uid):
            raise Conflict(f"{key}: another uid")
        wanted = copy.deepcopy(manifest)
        wanted["metadata"].pop("uid", None)
        merged = _merge(_without(copy.deepcopy(live or {}), self._applied.get(key, {}), wanted), wanted)
        self.normalise.get(key.kind, lambda _: None)(merged)
        self._applied[key] = wanted
        if merged == live:
            return copy.deepcopy(merged)
        return self.put(merged)

    async def delete(self, key: Key, uid: str) -> None:
        self._fail()
        self.calls.append(f"delete {key}")
        if key in self.objects and self.objects[key]["metadata"]["uid"] == uid:
            self.remove(key)

    async def patch_status(self, key: Key, status: Document) -> Document:
        self._fail()
        self.calls.append(f"status {key}")
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        document = self.objects[key]
        merged = {**document.get("status", {}), **status}
        return self.put({**document, "status": {k: v for k, v in merged.items() if v is not None}})

    async def create(self, document: Document) -> Document:
        self._fail()
        self.calls.append(f"create {document['kind']} {document.get('reason', '')}".rstrip())
        if key_of(document) in self.objects:
            raise Conflict(f"{key_of(document)} exists")
        return self.put(document)

    async def replace(self, document: Document) -> Document:
        self._fail()
        key = key_of(document)
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        if self.objects[key]["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
            raise Conflict(f"{key}: another resource version")
        return self.put(document)

    async def served(self, kind: Kind) -> bool:
        self._fail()
        return kind.name in KINDS and kind.name not in self.unserved

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def _merge(live: Any, wanted: Any) -> Any:
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {**live, **{name: _merge(live.get(name), value) for name, value in wanted.items()}}
    return wanted


def _without(live: Any, before: Any, wanted: Any) -> Any:
    """Take out what was applied before and is not wanted any more."""
    if not isinstance(live, dict) or not isinstance(before, dict):
        return live
    kept = {}
    for name, value in live.items():
        if name in before and name not in wanted:
            continue
        kept[name] = _without(value, before.get(name), wanted.get(name) or {})
    return kept
