"""What we know of the cluster, fed by watches, lists and our own writes: reconciling reads here and costs no request.

Only what is needed is kept: no managed fields, and of Secrets and foreign ConfigMaps a digest for each key.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from typing import TypeVar

from koukan_operator.kinds import (
    CHAIN,
    CONFIG_MAP,
    MANAGED_BY_LABEL,
    ROUTER,
    SECRET,
    Document,
    Key,
    Kind,
    controller_of,
    key_of,
)
from koukan_operator.labels import FIELD_MANAGER

#: annotation that kubectl apply keeps a copy of the whole object in
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

K = TypeVar("K")
V = TypeVar("V")


class Cache:
    """The objects of the watched kinds, as they were when we last heard of them."""

    def __init__(self) -> None:
        self._objects: dict[Key, Document] = {}
        self._names: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        #: by uid of the controller: what it owns
        self._owned: defaultdict[str, set[Key]] = defaultdict(set)
        #: by router: the chains that attach themselves to it
        self._attached: defaultdict[Key, set[str]] = defaultdict(set)

    def get(self, key: Key) -> Document | None:
        return self._objects.get(key)

    def keys(self, kind: Kind) -> list[Key]:
        """The objects of a kind in all namespaces."""
        return [key for key in self._objects if key.kind == kind.name]

    def owned_by(self, uid: str) -> list[Key]:
        """What we made for the resource of this uid."""
        return sorted(self._owned.get(uid, ()))

    def attached_to(self, router: Key) -> list[Document]:
        """The OutputChains whose `spec.routerRefs` name the router, by name."""
        names = sorted(self._attached.get(router, ()))
        return [self._objects[Key(CHAIN.name, router.namespace, name)] for name in names]

    def put(self, document: Document) -> bool:
        """Take in an object; False when it says nothing new."""
        key = key_of(document)
        known = self._objects.get(key)
        if known is not None and not _is_newer(document, known):
            return False
        slim = slimmed(document)
        self._forget(key)
        self._objects[key] = slim
        self._remember(key, slim)
        return True

    def remove(self, key: Key, uid: str) -> bool:
        """The object of this uid is gone; False when that says nothing new."""
        known = self._objects.get(key)
        if known is None or known["metadata"].get("uid") != uid:
            return False  # a new one of the same name came before the news of the old one's end
        self._forget(key)
        return True

    def uids(self, kind: Kind, namespace: str | None) -> dict[Key, str]:
        """What is known of a kind in one namespace or in all: taken before a list is asked for, it tells what has gone."""
        keys = (key for key in self.keys(kind) if namespace in (None, key.namespace))
        return {key: self._objects[key]["metadata"]["uid"] for key in keys}

    def _remember(self, key: Key, document: Document) -> None:
        controller = controller_of(document)
        if controller is not None and is_ours(document):
            self._owned[controller["uid"]].add(key)
        for router in _attachments(key, document):
            self._attached[router].add(key.name)

    def _forget(self, key: Key) -> None:
        document = self._objects.pop(key, None)
        if document is None:
            return
        controller = controller_of(document)
        if controller is not None and is_ours(document):
            _discard(self._owned, controller["uid"], key)
        for router in _attachments(key, document):
            _discard(self._attached, router, key.name)


def is_ours(document: Document) -> bool:
    """Whether it carries the label of what we make."""
    labels = document["metadata"].get("labels") or {}
    return bool(labels.get(MANAGED_BY_LABEL) == FIELD_MANAGER)


def slimmed(document: Document) -> Document:
    """A copy of the object without what nobody here reads."""
    metadata = {name: value for name, value in document["metadata"].items() if name != "managedFields"}
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != _LAST_APPLIED}
    slim = {**document, "metadata": metadata}
    kind = document["kind"]
    if kind == SECRET.name or (kind == CONFIG_MAP.name and not is_ours(document)):
        for field in ("data", "binaryData", "stringData"):
            if field in slim:
                slim[field] = {name: _digest(value) for name, value in (slim[field] or {}).items()}
    return slim


def _attachments(key: Key, document: Document) -> list[Key]:
    if key.kind != CHAIN.name:
        return []
    references = (document.get("spec") or {}).get("routerRefs") or ()
    return [Key(ROUTER.name, key.namespace, reference["name"]) for reference in references if "name" in reference]


def _is_newer(document: Document, known: Document) -> bool:
    """Resource versions of one kind are ordered numbers (KEP-5504); an object that was made anew has another uid."""
    new, old = document["metadata"], known["metadata"]
    if new.get("uid") != old.get("uid"):
        return True
    try:
        return int(new["resourceVersion"]) > int(old["resourceVersion"])
    except (KeyError, ValueError):
        return bool(new.get("resourceVersion") != old.get("resourceVersion"))


def _digest(value: str) -> str:
    # base64, since that is what values of Secrets are for everyone who reads one; nothing stays nothing.
    return value and base64.b64encode(hashlib.sha256(value.encode()).digest()).decode()


def _discard(table: defaultdict[K, set[V]], name: K, member: V) -> None:
    members = table[name]
    members.discard(member)
    if not members:
        del table[name]
