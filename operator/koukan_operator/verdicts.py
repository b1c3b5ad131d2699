"""What routers make of the chains that they use: the material of an OutputChain's status."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from koukan_operator.kinds import CHAIN, ROUTER, Key
from koukan_operator.render import Claim, Rendered

#: how a path in a router's problems says that it is inside a chain: `OutputChain/news spec.chain[2].keySecretRef`
_PREFIX = f"{CHAIN.name}/"


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """One chain as one router sees it."""

    #: it is in the configuration that the router's pods have
    used: bool = False
    claims: tuple[Claim, ...] = ()
    #: messages about references within the chain that lead nowhere
    missing: tuple[str, ...] = ()
    #: messages about what the router would not start with
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterVerdict:
    """All chains that one router has to do with; of a router that is itself invalid, what it thought last."""

    valid: bool
    chains: Mapping[str, ChainVerdict] = field(default_factory=dict)


class Verdicts:
    """The verdicts of the routers that have been reconciled since the operator started."""

    def __init__(self) -> None:
        self._routers: dict[Key, RouterVerdict] = {}

    def get(self, router: Key) -> RouterVerdict | None:
        """None: the router does not exist or has not been looked at yet; its chains come again when it has."""
        return self._routers.get(router)

    def about(self, chain: Key) -> dict[str, ChainVerdict]:
        """By router: what it makes of the chain."""
        return {
            router.name: verdict.chains[chain.name]
            for router, verdict in sorted(self._routers.items())
            if router.namespace == chain.namespace and chain.name in verdict.chains
        }

    def used_by(self, router: Key) -> list[str]:
        """The chains that the router used when it was last looked at."""
        verdict = self._routers.get(router)
        return [name for name, chain in verdict.chains.items() if chain.used] if verdict is not None else []

    def record(
        self, router: Key, rendered: Rendered | None, attached: Iterable[str], in_use: Collection[str]
    ) -> set[Key]:
        """Take in a router's view, None when it is invalid; answers the chains for which it is a new one."""
        before = self._routers.get(router)
        known = before.chains if before is not None else {}
        if rendered is None:
            after = RouterVerdict(False, {**dict.fromkeys(attached, ChainVerdict()), **known})
        else:
            after = RouterVerdict(True, _by_chain(rendered, attached, in_use))
        self._routers[router] = after
        names = {*known, *after.chains}
        if before is not None and before.valid == after.valid:
            names = {name for name in names if known.get(name) != after.chains.get(name)}
        return {Key(CHAIN.name, router.namespace, name) for name in names}

    def remove(self, router: Key) -> set[Key]:
        """The router is gone; answers the chains that it had to do with."""
        before = self._routers.pop(router, None)
        names = before.chains if before is not None else ()
        return {Key(CHAIN.name, router.namespace, name) for name in names}


def router_key(chain: Key, name: str) -> Key:
    """The router of that name beside a chain."""
    return Key(ROUTER.name, chain.namespace, name)


def runs_on(chain: Mapping[str, Any], router: str) -> bool:
    """Whether a router's pods have the chain, as its status says."""
    return router in ((chain.get("status") or {}).get("routers") or ())


def _by_chain(rendered: Rendered, attached: Iterable[str], in_use: Collection[str]) -> dict[str, ChainVerdict]:
    chains = {name: ChainVerdict(used=name in in_use) for name in (*rendered.chains, *attached, *in_use)}
    for claim in rendered.claims:
        known = chains.get(claim.chain, ChainVerdict())
        chains[claim.chain] = replace(known, claims=(*known.claims, claim))
    for missing in rendered.missing:
        name, path = _split(missing.path)
        if name:
            known = chains.get(name, ChainVerdict())
            chains[name] = replace(known, missing=(*known.missing, f"{path}: {missing.message}"))
    for problem in rendered.problems:
        name, path = _split(problem.path)
        if name:
            known = chains.get(name, ChainVerdict())
            chains[name] = replace(known, problems=(*known.problems, f"{path}: {problem.message}"))
    return chains


def chain_of_path(path: str) -> str:
    """The chain that a path of a router's findings is in, empty if in none."""
    return _split(path)[0]


def _split(path: str) -> tuple[str, str]:
    """The chain that a path is in, empty if in none, and the path within."""
    if not path.startswith(_PREFIX):
        return "", path
    name, _, rest = path.removeprefix(_PREFIX).partition(" ")
    return name, rest
