"""From news about an object to the resources that have to be looked at again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping

from koukan_operator.cache import Cache
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import CHAIN, CONFIG_MAP, RESOURCES, ROUTER, SECRET, Document, Key, controller_of, key_of

_RESOURCES = frozenset(kind.name for kind in RESOURCES)
#: kinds whose content others use; of the rest, who owns them is all that matters
_REFERENCED = _RESOURCES | {SECRET.name, CONFIG_MAP.name}


class Triggers:
    """Keeps the cache up to date and enqueues who is concerned."""

    def __init__(self, cache: Cache, index: ReferenceIndex, enqueue: Callable[[Key], Awaitable[None]]) -> None:
        self._cache = cache
        self._index = index
        self._enqueue = enqueue

    async def saw(self, document: Document) -> bool:
        """The object is, or has become, this; False when that is no news."""
        key = key_of(document)
        before = self._cache.get(key)
        if not self._cache.put(document):
            return False
        await self._tell(key, before, self._cache.get(key))
        return True

    async def lost(self, key: Key, uid: str) -> bool:
        """The object of this uid is gone; False when that is no news."""
        before = self._cache.get(key)
        if not self._cache.remove(key, uid):
            return False
        await self._tell(key, before, None)
        return True

    async def listed(self, documents: list[Document], known: Mapping[Key, str]) -> int:
        """A complete list; `known` are the uids of before it was asked for. Answers how many objects are news."""
        news = 0
        seen = set()
        for document in documents:
            seen.add(key_of(document))
            news += await self.saw(document)
        for key, uid in known.items():
            if key not in seen:
                await self.lost(key, uid)
        return news

    async def _tell(self, key: Key, before: Document | None, after: Document | None) -> None:
        for concerned in sorted(set(self._concerned(key, before, after))):
            await self._enqueue(concerned)

    def _concerned(self, key: Key, before: Document | None, after: Document | None) -> Iterator[Key]:
        if key.kind in _RESOURCES:
            yield key
        for document in (before, after):
            controller = controller_of(document) if document is not None else None
            if controller is not None and controller["kind"] in _RESOURCES:
                yield Key(controller["kind"], key.namespace, controller["name"])
        if key.kind in _REFERENCED and _content(before) != _content(after):
            yield from self._index.users_of(key)
            yield from self._attached(key, before, after)

    def _attached(self, key: Key, before: Document | None, after: Document | None) -> Iterator[Key]:
        """The other end of routerRefs: a chain's routers, as it names them now and did before, and a router's chains."""
        if key.kind == ROUTER.name:
            yield from (key_of(chain) for chain in self._cache.attached_to(key))
        if key.kind == CHAIN.name:
            for document in (before, after):
                references = ((document or {}).get("spec") or {}).get("routerRefs") or ()
                yield from (Key(ROUTER.name, key.namespace, reference["name"]) for reference in references)


def _content(document: Document | None) -> object:
    """What users of an object can see of it: not its status, nor its labels."""
    if document is None:
        return None
    return document["metadata"].get("uid"), *(document.get(part) for part in ("spec", "data", "binaryData", "type"))
