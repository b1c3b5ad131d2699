"""The watches: kopf keeps them open, and what they bring goes to the cache and the queue.

Only `event` handlers are used. They need no finalizer, so that nothing hangs when the operator is gone, and no annotation or
status of kopf's own, so that a resource changes only when there is something to say. What kopf's other handlers remember in
the object, we compare with the cluster itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import kopf
from kubernetes.client import Configuration

from koukan_operator.kinds import PAGE, Document, Kind, key_of
from koukan_operator.queue import jittered
from koukan_operator.resync import Resync, selectors_of
from koukan_operator.triggers import Triggers

logger = logging.getLogger("koukan.operator")

#: seconds after the start in which a listing is a watch's first one; later it is one that has started anew
FIRST_LISTING = 30.0
#: seconds without news after which a watch is opened again; the API server sends a bookmark every 60
INACTIVITY = 70.0
#: seconds between attempts at a list or watch that fails: the first ones, then MAX_BACKOFF for as long as it takes
BACKOFFS = (0.2, 0.5, 1.0, 2.0)
MAX_BACKOFF = 5.0


class Watches:
    """Watches every kind that matters, in the namespaces that the operator serves."""

    def __init__(
        self,
        connect: Callable[[], Configuration],
        triggers: Triggers,
        resync: Resync,
        namespaces: Sequence[str],
    ) -> None:
        self._connect = connect
        self._triggers = triggers
        self._resync = resync
        self._namespaces = namespaces
        self._started = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop, or by a signal. Raises whatever ends a watch for good."""
        self._started = time.monotonic()
        # kopf waits for its flag's waiter even when a signal has ended it, so the flag is its own and is set in the end.
        ended = asyncio.Event()
        forward = asyncio.create_task(_forward(stop, ended))
        try:
            await kopf.operator(
                registry=self._registry(ended),
                settings=_settings(self._resync.kinds),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                standalone=True,
                stop_flag=ended,
            )
        finally:
            forward.cancel()

    def _registry(self, ended: asyncio.Event) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(id="login", registry=registry)(self.login)

        @kopf.on.cleanup(id="cleanup", registry=registry)
        async def clean(**_: Any) -> None:
            ended.set()

        for kind in self._resync.kinds:
            self._register(kind, registry)
        return registry

    def _register(self, kind: Kind, registry: kopf.OperatorRegistry) -> None:
        @kopf.on.event(group=kind.group, version=kind.version, plural=kind.plural, id="watch", registry=registry)
        async def hear(event: kopf.RawEvent, **_: Any) -> None:
            await self.on_event(kind, event)

    async def login(self, **_: Any) -> kopf.ConnectionInfo:
        """Credentials, read anew each time that kopf asks: tokens of service accounts change."""
        configuration = self._connect()
        token = configuration.get_api_key_with_prefix("BearerToken", "authorization")
        scheme, _space, secret = (token or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=secret or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    async def on_event(self, kind: Kind, event: kopf.RawEvent) -> None:
        """Take in one event of a kind's watch, or an item of its first list (whose event type is None)."""
        # Items of a list come without what the list says once.
        document: Document = {**event["object"], "apiVersion": kind.api_version, "kind": kind.name}
        self._resync.heard(kind)
        if event["type"] == "DELETED":
            await self._triggers.lost(key_of(document), document["metadata"]["uid"])
            return
        await self._triggers.saw(document)
        if event["type"] is None and time.monotonic() - self._started > FIRST_LISTING:
            self._resync.ask()


async def _forward(stop: asyncio.Event, ended: asyncio.Event) -> None:
    await stop.wait()
    ended.set()


class _Backoffs:
    """The pauses between attempts: never the last one, since an API server that is away comes back some day."""

    def __iter__(self) -> Iterator[float]:
        yield from (jittered(pause) for pause in BACKOFFS)
        while True:
            yield jittered(MAX_BACKOFF)


def _settings(kinds: Sequence[Kind]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Kinds are ours to find (`Resync.find_kinds`): the operator needs no right to read definitions and namespaces.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 5
    settings.watching.inactivity_timeout = INACTIVITY
    settings.watching.chunk_size = PAGE
    # Hundreds of objects come at once when we start: the task that each of them has is to be gone soon after.
    settings.queueing.idle_timeout = 0.1
    settings.persistence.finalizer = "koukan.io/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="koukan.io")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="koukan.io")
    for kind in kinds:
        labels, fields = selectors_of(kind)
        resource = (kind.group, kind.version, kind.plural)
        if labels:
            settings.watching.label_selectors[resource] = labels
        if fields:
            settings.watching.field_selectors[resource] = fields
    return settings
