"""What a resource refers to, and what of it was found: the input of rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object in the namespace of the resource that refers to it.

    `kind` is one of OutputChain, Secret, ConfigMap, KoukanRouter, KoukanGateway.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Refs:
    """Documents as the API server gave them. What is not in `found` does not exist."""

    found: Mapping[ObjectRef, Document] = field(default_factory=dict)
    #: every OutputChain of the namespace; a router finds those that attach to it here
    chains: Sequence[Document] = ()


def references_of(
    resource: KoukanRouter | KoukanGateway | OutputChain, refs: Refs | None = None
) -> frozenset[ObjectRef]:
    """Everything whose change must reconcile `resource` again, whether it exists or not.

    References lead on: a router's chains name Secrets, a gateway's router has a CA. With what was found so far in `refs`,
    they are followed; call again with the new finds until the answer stays the same (two rounds more at most).
    """
    raise NotImplementedError
