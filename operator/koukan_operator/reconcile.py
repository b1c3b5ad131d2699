"""Reconciling: from the documents of one resource to the objects and the status that it should have.

Level-triggered: whatever the trigger was, everything is looked at, and what is already right costs no request. What is missing
or invalid never changes what runs: the last good objects stay in the cluster, and conditions say what to do.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from koukan_operator import metrics
from koukan_operator.apply import Applier, NameTaken
from koukan_operator.cache import Cache
from koukan_operator.chains import ChainReconciler
from koukan_operator.cluster import Cluster, Forbidden, Invalid
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import CERTIFICATE, CHAIN, DEPLOYMENT, ROUTER, Document, Key, Kind
from koukan_operator.labels import PAUSE
from koukan_operator.planning import Plan, Planner
from koukan_operator.queue import jittered
from koukan_operator.render import Rendered
from koukan_operator.reporter import Reporter
from koukan_operator.settings import OperatorSettings
from koukan_operator.status import (
    FALSE,
    PROGRESSING,
    TRUE,
    UNKNOWN,
    Condition,
    Rollout,
    Status,
    issue_condition,
    ready_condition,
    rollout_condition,
)
from koukan_operator.verdicts import Verdicts, runs_on

#: seconds until we look again whether an object that is not ours is gone: it has no label by which we would hear of it
NAME_TAKEN_RETRY = 15.0
#: seconds until we offer again what the API server refused: a quota, a policy or our role may have changed
REFUSED_RETRY = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the manifests: `result` for the metrics, Progressing when it is not the rollout's, when to come again."""

    result: str
    progressing: Condition | None = None
    again: float | None = None


class Reconciler:
    """Reconciles any of the three kinds by key."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: OperatorSettings,
        enqueue: Callable[[Key], Awaitable[None]],
        reporter: Reporter | None = None,
    ) -> None:
        self.index = ReferenceIndex()
        self.planner = Planner(cache, self.index, settings)
        self._cache = cache
        self._enqueue = enqueue
        self._verdicts = Verdicts()
        self._applier = Applier(cluster, cache)
        self._reporter = reporter or Reporter(cluster, cache)
        self._chains = ChainReconciler(cache, self.index, self._verdicts, self._reporter)
        self._tally = Tally()

    async def reconcile(self, key: Key) -> float | None:
        """Look at one resource and make it so; answers when to look again without a trigger. Raises ClusterError."""
        started = time.perf_counter()
        outcome = Outcome("failed")
        try:
            outcome = await self._reconcile(key)
        finally:
            metrics.RECONCILES.labels(key.kind, outcome.result).inc()
            metrics.DURATION.labels(key.kind).observe(time.perf_counter() - started)
            self._tally.set(key, self._cache.get(key))
        return outcome.again

    async def _reconcile(self, key: Key) -> Outcome:
        document = self._cache.get(key)
        if document is None:
            await self._forget(key)
            return Outcome("gone")
        if document["metadata"].get("deletionTimestamp"):
            return Outcome("gone")  # the garbage collector is at work; what we made now it would only have to take away
        if key.kind == CHAIN.name:
            return Outcome(await self._chains.reconcile(key, document))
        return await self._program(key, document)

    async def _forget(self, key: Key) -> None:
        self.index.remove(key)
        self._applier.forget(key)
        self.planner.forget(key)
        if key.kind == ROUTER.name:
            for chain in self._verdicts.remove(key):
                await self._enqueue(chain)

    async def _program(self, key: Key, document: Document) -> Outcome:
        """A router or a gateway."""
        plan = self.planner.plan(key, document)
        if key.kind == ROUTER.name:
            attached = [chain["metadata"]["name"] for chain in self._cache.attached_to(key)]
            for chain in self._verdicts.record(key, plan.found, attached, self._in_use(key, document, plan)):
                await self._enqueue(chain)
        outcome = await self._apply(document, plan)
        await self._reporter.report(document, self._status(document, plan, outcome))
        return outcome

    def _in_use(self, key: Key, document: Document, plan: Plan) -> set[str]:
        """The chains in the configuration that the router's pods have, or are about to get."""
        if plan.applicable is not None and not is_paused(document):
            return set(plan.applicable.chains)
        names = [*(plan.found.chains if plan.found is not None else ()), *self._verdicts.used_by(key)]
        chains = {name: self._cache.get(Key(CHAIN.name, key.namespace, name)) for name in names}
        return {name for name, chain in chains.items() if chain is not None and runs_on(chain, key.name)}

    async def _apply(self, document: Document, plan: Plan) -> Outcome:
        if is_paused(document):
            message = f"nothing is applied while the annotation {PAUSE} is there; remove it to go on"
            return Outcome("paused", Condition(PROGRESSING, FALSE, "Paused", message))
        if plan.applicable is None:
            message = f"nothing is applied until {plan.obstacle} is True; its message says what to do"
            return Outcome("waiting", Condition(PROGRESSING, FALSE, "Blocked", message))
        try:
            await self._applier.apply(document, plan.applicable.manifests)
        except NameTaken as error:
            condition = Condition(PROGRESSING, FALSE, "NameTaken", str(error))
            return Outcome("waiting", condition, jittered(NAME_TAKEN_RETRY))
        except (Invalid, Forbidden) as error:
            message = f"the API server refuses an object: {error}"
            return Outcome("waiting", Condition(PROGRESSING, FALSE, "Refused", message), jittered(REFUSED_RETRY))
        return Outcome("ok")

    def _status(self, document: Document, plan: Plan, outcome: Outcome) -> Status:
        uid = document["metadata"]["uid"]
        rollout = Rollout.of(next(iter(self._owned(uid, DEPLOYMENT)), None))
        fields = _fields(document, plan.found, rollout)
        namespace = document["metadata"]["namespace"]
        stuck = outcome.progressing
        resolved = plan.references_resolved
        if resolved.status == TRUE:
            resolved = issue_condition(self._owned(uid, CERTIFICATE)) or resolved
        conditions = [
            ready_condition(rollout, stuck.message if stuck is not None else plan.last_good),
            stuck or rollout_condition(rollout, fields["selector"] or "", namespace),
            plan.config_valid,
            resolved,
        ]
        return Status(conditions, fields)

    def _owned(self, uid: str, kind: Kind) -> list[Document]:
        documents = (self._cache.get(key) for key in self._cache.owned_by(uid) if key.kind == kind.name)
        return [document for document in documents if document is not None]


class Tally:
    """Resources by kind and by the status of their first condition, for the metrics."""

    def __init__(self) -> None:
        self._known: dict[Key, str] = {}

    def set(self, key: Key, document: Document | None) -> None:
        """The resource as it is now, None when it is gone."""
        before = self._known.pop(key, None)
        if before is not None:
            metrics.RESOURCES.labels(key.kind, before).dec()
        if document is not None:
            conditions = (document.get("status") or {}).get("conditions") or [{}]
            self._known[key] = conditions[0].get("status", UNKNOWN)
            metrics.RESOURCES.labels(key.kind, self._known[key]).inc()


def is_paused(document: Document) -> bool:
    """Whether people have asked us to leave the resource alone."""
    value = (document["metadata"].get("annotations") or {}).get(PAUSE)
    return value is not None and value.lower() != "false"


def _fields(document: Document, rendered: Rendered | None, rollout: Rollout) -> dict[str, Any]:
    """The status besides its conditions; of a resource that does not render, what it was."""
    live = document.get("status") or {}
    fields: dict[str, Any] = {
        "replicas": rollout.current,
        "readyReplicas": rollout.ready,
        "selector": live.get("selector"),
        "serviceUri": live.get("serviceUri"),
    }
    if rendered is not None and rendered.selector:
        fields["selector"] = rendered.selector
        fields["serviceUri"] = rendered.service_uri or None
    return fields
