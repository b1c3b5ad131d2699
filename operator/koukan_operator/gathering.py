"""From the cache: everything that a resource refers to."""

from __future__ import annotations

from collections.abc import Sequence

from koukan_operator.cache import Cache
from koukan_operator.kinds import Document, Key
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.references import ObjectRef, Refs, references_of

#: references lead on (a sender's chain, the chain of its exploder, a Secret), a round each; longer ones are loops
MAX_ROUNDS = 16


def gather(
    cache: Cache, namespace: str, resource: KoukanRouter | KoukanGateway | OutputChain, chains: Sequence[Document]
) -> tuple[Refs, frozenset[Key]]:
    """What exists of the references, and all of them. `chains` are those that attach themselves to a router."""
    wanted: frozenset[ObjectRef] = frozenset()
    refs = Refs(chains=chains)
    for _ in range(MAX_ROUNDS):
        named = references_of(resource, refs)
        if named == wanted:
            break
        wanted = named
        documents = {ref: cache.get(Key(ref.kind, namespace, ref.name)) for ref in wanted}
        refs = Refs({ref: document for ref, document in documents.items() if document is not None}, chains)
    return refs, frozenset(Key(ref.kind, namespace, ref.name) for ref in wanted)
