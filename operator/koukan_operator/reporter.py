"""Writing status and events: one patch when something has changed, an event when a condition has moved."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from koukan_operator.cache import Cache
from koukan_operator.cluster import Cluster, ClusterError, NotFound
from koukan_operator.kinds import EVENT, Document, Key, key_of
from koukan_operator.labels import FIELD_MANAGER
from koukan_operator.status import FALSE, Condition, Status, merge, timestamp

logger = logging.getLogger("koukan.operator")

#: what every change of a Deployment passes through; its own events tell of it
_UNEVENTFUL = frozenset({"RollingOut", "Complete"})
#: the API server's limit on the message of an Event, in characters
_EVENT_MESSAGE = 1024


class Reporter:
    """Status and events of custom resources."""

    def __init__(self, cluster: Cluster, cache: Cache, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._cluster = cluster
        self._cache = cache
        self._now = now

    async def report(self, document: Document, wanted: Status) -> None:
        """Make the resource's status what it should be. A resource that is gone is no error. Raises ClusterError."""
        key = key_of(document)
        patch, moved = merge(document, wanted, self._now())
        if patch is None:
            return
        try:
            self._cache.put(await self._cluster.patch_status(key, patch))
        except NotFound:
            return
        for condition in moved:
            if condition.reason not in _UNEVENTFUL:
                await self._emit(document, condition)

    async def _emit(self, document: Document, condition: Condition) -> None:
        try:
            await self._cluster.create(event_of(document, condition, self._now()))
        except ClusterError as error:
            # An event is a courtesy: the condition says the same, and the resource must not wait for it.
            logger.warning("%s: no event: %s", key_of(document), error)


def event_of(document: Document, condition: Condition, now: datetime) -> Document:
    """An Event that tells of a condition."""
    key: Key = key_of(document)
    moment = timestamp(now)
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"namespace": key.namespace, "name": f"{key.name}.{uuid.uuid4().hex[:16]}"},
        "involvedObject": {
            "apiVersion": document["apiVersion"],
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": document["metadata"]["uid"],
        },
        "type": "Warning" if condition.status == FALSE else "Normal",
        "reason": condition.reason,
        "message": f"{condition.type}={condition.status}: {condition.message}"[:_EVENT_MESSAGE],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": FIELD_MANAGER,
    }
