"""One chain's mistake stays with that chain: its router goes on with the chain as it was, or without one that is new.

Whoever may attach a chain to a router could otherwise hold up every other change of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koukan_operator.kinds import CHAIN, Document, Key
from koukan_operator.references import ObjectRef, Refs
from koukan_operator.render import Rendered
from koukan_operator.verdicts import chain_of_path, runs_on


@dataclass(frozen=True, slots=True)
class Detour:
    """References with which a router may render where with the real ones it does not."""

    refs: Refs
    #: chains that run as they were
    kept: tuple[str, ...] = ()
    #: new chains that do not run yet
    left_out: tuple[str, ...] = ()
    #: all of them have attached themselves: nothing is wrong with the router
    attached: bool = True

    def __str__(self) -> str:
        parts = []
        if self.kept:
            parts.append(f"{CHAIN.name} {', '.join(self.kept)} runs as it was before its last change")
        if self.left_out:
            parts.append(f"{CHAIN.name} {', '.join(self.left_out)} is left out")
        return f"{'; '.join(parts)}: its conditions say why"


class LastGood:
    """The chains of each router as they were when it last rendered with them."""

    def __init__(self) -> None:
        self._chains: dict[Key, Mapping[str, Document]] = {}

    def remember(self, router: Key, rendered: Rendered, refs: Refs) -> None:
        """The router renders with these references."""
        documents = ((name, refs.chain(name)) for name in rendered.chains)
        self._chains[router] = {name: dict(document) for name, document in documents if document is not None}

    def forget(self, router: Key) -> None:
        """The router is gone."""
        self._chains.pop(router, None)

    def detour(self, router: Key, rendered: Rendered, refs: Refs) -> Detour | None:
        """Around the chains that keep the router from rendering; None when something else does, or they must not change."""
        paths = [*(missing.path for missing in rendered.missing), *(problem.path for problem in rendered.problems)]
        blamed = {chain_of_path(path) for path in paths}
        if "" in blamed:
            return None
        attached = {document["metadata"]["name"] for document in refs.attached(router.name)}
        known = self._chains.get(router, {})
        kept: dict[str, Document] = {}
        left_out: set[str] = set()
        for name in sorted(blamed):
            document = refs.chain(name)
            if document is None:
                return None
            before = known.get(name)
            if before is not None and before["metadata"]["uid"] == document["metadata"]["uid"]:
                kept[name] = before
            elif name in attached and not runs_on(document, router.name):
                left_out.add(name)
            else:
                # It runs, and we do not know any more what it was: everything stays as it is.
                return None
        return Detour(
            _replaced(refs, kept, left_out), tuple(kept), tuple(sorted(left_out)), attached=blamed <= attached
        )


def _replaced(refs: Refs, kept: Mapping[str, Document], left_out: set[str]) -> Refs:
    found = {ref: doc for ref, doc in refs.found.items() if ref.kind != CHAIN.name or ref.name not in left_out}
    found |= {ObjectRef(CHAIN.name, name): document for name, document in kept.items()}
    named = ((document["metadata"]["name"], document) for document in refs.chains)
    return Refs(found, [kept.get(name, document) for name, document in named if name not in left_out])
