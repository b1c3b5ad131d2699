"""From a resource and what it refers to, to the manifests that can be applied and the findings about it. No request is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koukan_operator.cache import Cache
from koukan_operator.errors import InvalidResource
from koukan_operator.gathering import gather
from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import GATEWAY, Document, Key
from koukan_operator.lastgood import Detour, LastGood
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.references import Refs
from koukan_operator.render import Rendered, render_gateway, render_router
from koukan_operator.settings import OperatorSettings
from koukan_operator.status import (
    CONFIG_VALID,
    FALSE,
    REFERENCES_RESOLVED,
    TRUE,
    UNKNOWN,
    Condition,
    listed,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one look at a router or gateway found."""

    #: what is in the resource and its references, None when the resource itself is invalid
    found: Rendered | None
    #: why it is invalid
    invalid: str = ""
    #: what is applied when `found` cannot be, and how that differs
    instead: Rendered | None = None
    detour: Detour | None = None

    @property
    def applicable(self) -> Rendered | None:
        """What is to be applied."""
        return self.found if self.found is not None and self.found.applicable else self.instead

    @property
    def last_good(self) -> str:
        """Why pods run something earlier although what is applicable has been applied; empty when they do not."""
        return str(self.detour) if self.detour is not None and self.detour.kept else ""

    @property
    def _told(self) -> Rendered | None:
        """Findings that are the resource's own: what is wrong with chains that attached themselves is said there."""
        return self.instead if self.detour is not None and self.detour.attached else self.found

    @property
    def config_valid(self) -> Condition:
        told = self._told
        if told is None:
            return Condition(CONFIG_VALID, FALSE, "InvalidResource", self.invalid)
        if told.problems:
            return Condition(CONFIG_VALID, FALSE, "InvalidConfig", listed(str(p) for p in told.problems))
        notes = [f"warning: {warning}" for warning in told.warnings]
        if self.detour is not None:
            notes.insert(0, str(self.detour))
        return Condition(CONFIG_VALID, TRUE, "Valid", listed(notes) or "the configuration is one that starts")

    @property
    def references_resolved(self) -> Condition:
        told = self._told
        if told is None:
            message = "the resource has to be valid first, see ConfigValid"
            return Condition(REFERENCES_RESOLVED, UNKNOWN, "InvalidResource", message)
        if told.missing:
            missing = listed(f"{m.path}: {m.message}" for m in told.missing)
            return Condition(REFERENCES_RESOLVED, FALSE, "NotFound", missing)
        return Condition(REFERENCES_RESOLVED, TRUE, "Resolved", "everything that is referred to exists")

    @property
    def obstacle(self) -> str:
        """The condition that keeps everything from being applied."""
        return next(c.type for c in (self.config_valid, self.references_resolved) if c.status != TRUE)


class Planner:
    """Plans for routers and gateways."""

    def __init__(self, cache: Cache, index: ReferenceIndex, settings: OperatorSettings) -> None:
        #: replaced when the API server comes to serve more, or less
        self.settings = settings
        self._cache = cache
        self._index = index
        self._last_good = LastGood()

    def plan(self, key: Key, document: Document) -> Plan:
        """Look at a router or a gateway."""
        try:
            if key.kind == GATEWAY.name:
                gateway = KoukanGateway.parse(document)
                return Plan(render_gateway(gateway, self._gather(key, gateway, ()), self.settings))
            return self._plan_router(key, KoukanRouter.parse(document))
        except InvalidResource as error:
            return Plan(None, listed(str(error).splitlines()))

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._last_good.forget(key)

    def _plan_router(self, key: Key, router: KoukanRouter) -> Plan:
        refs = self._gather(key, router, self._cache.attached_to(key))
        found = render_router(router, refs, self.settings)
        if found.applicable:
            self._last_good.remember(key, found, refs)
            return Plan(found)
        detour = self._last_good.detour(key, found, refs)
        if detour is None:
            return Plan(found)
        instead = render_router(router, detour.refs, self.settings)
        if not instead.applicable:
            return Plan(found)
        # The other chains are as they are now, and that is what they go back to if they break in turn.
        self._last_good.remember(key, instead, detour.refs)
        return Plan(found, instead=instead, detour=detour)

    def _gather(self, key: Key, resource: KoukanRouter | KoukanGateway, chains: Sequence[Document]) -> Refs:
        refs, targets = gather(self._cache, key.namespace, resource, chains)
        self._index.set(key, targets)
        return refs
