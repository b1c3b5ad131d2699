"""Server-side apply and prune: a resource's objects become what its manifests say, with no write that changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from koukan.errors import KoukanError
from koukan_operator.cache import Cache, is_ours
from koukan_operator.cluster import Cluster, Conflict, NotFound
from koukan_operator.kinds import DEPLOYMENT, Document, Key, controller_of, key_of

#: digest of the manifest as we last applied it: tells a new manifest from an old one without asking, and over restarts
MANIFEST_HASH = "koukan.io/manifest-hash"


class NameTaken(KoukanError):
    """An object that is not ours has the name of one that we would make."""

    def __init__(self, key: Key, owner: str) -> None:
        super().__init__(
            f"{key} exists and belongs to {owner}; delete or rename it, or give this resource another name"
        )


class Applier:
    """Applies manifests. Objects belong to a resource by the owner reference of its controller, and by nothing else."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        #: by owner and object: digests of a manifest and of what the API server made of it, where it writes things otherwise
        #: than we do (`cpu: "1"` for `1000m`); without that it would look like drift for ever
        self._normalised: dict[Key, dict[Key, tuple[str, str]]] = {}

    async def apply(self, owner: Document, manifests: Sequence[Document]) -> int:
        """Make the objects of `owner` what `manifests` say, prune the others; answers how many were written.

        Raises NameTaken before anything is written, Conflict for what a deleted resource of the same name left behind,
        ClusterError.
        """
        live = {key_of(manifest): await self._live(key_of(manifest), owner) for manifest in manifests}
        known = self._normalised.setdefault(key_of(owner), {})
        written = 0
        for manifest in manifests:
            key = key_of(manifest)
            wanted = with_hash(manifest)
            if _differs(live[key], wanted, known.get(key)):
                known[key] = await self._write(live[key], wanted)
                written += 1
        for key in known.keys() - live.keys():
            del known[key]
        return written + await self._prune(owner, set(live))

    def forget(self, owner: Key) -> None:
        """The resource is gone; the garbage collector takes its objects."""
        self._normalised.pop(owner, None)

    async def _live(self, key: Key, owner: Document) -> Document | None:
        """The object that is there now. What the cache does not know may still be there: it sees only what has our label."""
        known = self._cache.get(key)
        if known is None or not _belongs(known, owner):
            try:
                known = await self._cluster.get(key)
            except NotFound:
                return None
        if _belongs(known, owner):
            return known
        raise _not_ours(key, known, owner)

    async def _write(self, live: Document | None, wanted: Document) -> tuple[str, str]:
        manifest = wanted
        if live is not None:
            # If it was deleted and made anew by someone else since we looked, the API server refuses.
            metadata = {**wanted["metadata"], "uid": live["metadata"]["uid"]}
            manifest = {**_with_replicas(wanted, live), "metadata": metadata}
        after = await self._cluster.apply(manifest)
        self._cache.put(after)
        return digest_of(wanted), digest_of(project(after, wanted))

    async def _prune(self, owner: Document, wanted: set[Key]) -> int:
        pruned = 0
        for key in self._cache.owned_by(owner["metadata"]["uid"]):
            document = self._cache.get(key)
            if key in wanted or document is None or document["metadata"].get("deletionTimestamp"):
                continue
            uid = document["metadata"]["uid"]
            await self._cluster.delete(key, uid)
            self._cache.remove(key, uid)
            pruned += 1
        return pruned


def _differs(live: Document | None, wanted: Document, written: tuple[str, str] | None) -> bool:
    """Whether a write would change something; `written` are the digests of the last one."""
    if live is None:
        return True
    ours = project(live, wanted)
    return ours != wanted and (digest_of(wanted), digest_of(ours)) != written


def _with_replicas(wanted: Document, live: Document) -> Document:
    """An autoscaler says how many pods there are: what it has said, or what there was when it took over, stays.

    A field that a manifest no longer has goes back to its default, which is one pod.
    """
    if wanted["kind"] != DEPLOYMENT.name or "replicas" in wanted["spec"] or "replicas" not in live["spec"]:
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "replicas": live["spec"]["replicas"]}}


def with_hash(manifest: Document) -> Document:
    """The manifest with its own digest as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), MANIFEST_HASH: digest_of(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def digest_of(document: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with the content, not with the order of keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def project(live: Any, wanted: Any) -> Any:
    """What `live` has where `wanted` says something: defaults and other managers' fields fall away."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {name: project(live[name], value) for name, value in wanted.items() if name in live}
    if isinstance(live, list) and isinstance(wanted, list):
        return _project_list(live, wanted)
    return live


def _project_list(live: list[Any], wanted: list[Any]) -> list[Any]:
    by_name = {item["name"]: item for item in live if _has_name(item)}
    if len({item["name"] for item in wanted if _has_name(item)}) == len(wanted):
        # A list that others may add to (containers, environment, ports): ours are found by name.
        return [project(by_name[item["name"]], item) for item in wanted if item["name"] in by_name]
    if len(live) == len(wanted):
        return [project(*pair) for pair in zip(live, wanted, strict=True)]
    return live


def _has_name(item: object) -> bool:
    return isinstance(item, dict) and "name" in item


def _belongs(document: Document, owner: Document) -> bool:
    controller = controller_of(document)
    return controller is not None and bool(controller.get("uid") == owner["metadata"]["uid"])


def _not_ours(key: Key, document: Document, owner: Document) -> KoukanError:
    controller = controller_of(document)
    if controller is None:
        return NameTaken(key, "no resource of ours")
    same = (controller["kind"], controller["name"]) == (owner["kind"], owner["metadata"]["name"])
    if same and is_ours(document):
        return Conflict(f"{key} is left of a deleted {owner['kind']} of this name; the garbage collector takes it away")
    return NameTaken(key, f"{controller['kind']} {controller['name']}")
