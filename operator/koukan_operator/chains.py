"""Reconciling OutputChains: nothing is made for them, but their status tells what routers make of them."""

from __future__ import annotations

from collections.abc import Mapping

from koukan_operator.cache import Cache
from koukan_operator.errors import InvalidResource
from koukan_operator.gathering import gather
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import ROUTER, Document, Key
from koukan_operator.model import OutputChain
from koukan_operator.reporter import Reporter
from koukan_operator.status import (
    ACCEPTED,
    CONFIG_VALID,
    FALSE,
    REFERENCES_RESOLVED,
    TRUE,
    UNKNOWN,
    Condition,
    Status,
    listed,
)
from koukan_operator.verdicts import ChainVerdict, Verdicts, router_key


class ChainReconciler:
    """Reconciles OutputChains."""

    def __init__(self, cache: Cache, index: ReferenceIndex, verdicts: Verdicts, reporter: Reporter) -> None:
        self._cache = cache
        self._index = index
        self._verdicts = verdicts
        self._reporter = reporter

    async def reconcile(self, key: Key, document: Document) -> str:
        """Report on one chain; answers the result for the metrics. Raises ClusterError."""
        try:
            chain = OutputChain.parse(document)
        except InvalidResource as error:
            await self._reporter.report(document, _invalid(listed(str(error).splitlines())))
            return "waiting"
        refs, targets = gather(self._cache, key.namespace, chain, ())
        self._index.set(key, targets)
        if self._is_early(key, chain):
            return "waiting"
        verdicts = self._verdicts.about(key)
        absent = [name for name in chain.router_names if self._cache.get(router_key(key, name)) is None]
        found = {Key(ref.kind, key.namespace, ref.name) for ref in refs.found}
        secrets = sorted(target for target in targets - found if target.kind != ROUTER.name)
        conditions = [
            self._accepted(key, chain, verdicts, absent),
            _valid(verdicts),
            _resolved(verdicts, absent, secrets),
        ]
        routers = [name for name, verdict in verdicts.items() if verdict.used]
        await self._reporter.report(document, Status(conditions, {"routers": routers}))
        return "ok" if all(condition.status == TRUE for condition in conditions) else "waiting"

    def _is_early(self, key: Key, chain: OutputChain) -> bool:
        """A router that may use the chain has not been looked at since we started; it will have the chain come again."""
        routers = {router_key(key, name) for name in chain.router_names}
        if not self._verdicts.about(key):
            routers |= {router for router in self._cache.keys(ROUTER) if router.namespace == key.namespace}
        return any(self._cache.get(router) and self._verdicts.get(router) is None for router in routers)

    def _accepted(
        self, key: Key, chain: OutputChain, verdicts: Mapping[str, ChainVerdict], absent: list[str]
    ) -> Condition:
        refused = [claim for verdict in verdicts.values() for claim in verdict.claims if not claim.accepted]
        if refused:
            message = listed(f"{ROUTER.name} {claim.router}: {claim.message}" for claim in refused)
            return Condition(ACCEPTED, FALSE, refused[0].reason, message)
        if absent:
            return Condition(ACCEPTED, FALSE, "RouterNotFound", _absent(absent))
        for name in chain.router_names:
            verdict = self._verdicts.get(router_key(key, name))
            if verdict is not None and not verdict.valid:
                return Condition(ACCEPTED, UNKNOWN, "RouterInvalid", f"{ROUTER.name} {name} has to be valid first")
        users = ", ".join(verdicts)
        if chain.router_names:
            return Condition(ACCEPTED, TRUE, "Accepted", f"attached to {ROUTER.name} {users}")
        if users:
            return Condition(ACCEPTED, TRUE, "Referenced", f"named by {ROUTER.name} {users}")
        advice = "name it in a router's sender (outputChain), or attach it with spec.routerRefs"
        return Condition(ACCEPTED, FALSE, "NotReferenced", f"no {ROUTER.name} uses this chain: {advice}")


def _valid(verdicts: Mapping[str, ChainVerdict]) -> Condition:
    problems = [problem for verdict in verdicts.values() for problem in verdict.problems]
    if problems:
        return Condition(CONFIG_VALID, FALSE, "InvalidConfig", listed(problems))
    return Condition(CONFIG_VALID, TRUE, "Valid", "the chain is one that routers start with")


def _resolved(verdicts: Mapping[str, ChainVerdict], absent: list[str], objects: list[Key]) -> Condition:
    missing = [message for verdict in verdicts.values() for message in verdict.missing]
    if not missing:
        missing = [f'{target.kind} "{target.name}" does not exist; create it' for target in objects]
    if absent:
        missing.append(_absent(absent))
    if missing:
        return Condition(REFERENCES_RESOLVED, FALSE, "NotFound", listed(missing))
    return Condition(REFERENCES_RESOLVED, TRUE, "Resolved", "everything that is referred to exists")


def _absent(names: list[str]) -> str:
    return f"spec.routerRefs: there is no {ROUTER.name} {', '.join(names)} in this namespace; create it or correct the name"


def _invalid(message: str) -> Status:
    later = "the chain has to be valid first, see ConfigValid"
    return Status(
        [
            Condition(ACCEPTED, FALSE, "InvalidChain", message),
            Condition(CONFIG_VALID, FALSE, "InvalidChain", message),
            Condition(REFERENCES_RESOLVED, UNKNOWN, "InvalidChain", later),
        ]
    )
