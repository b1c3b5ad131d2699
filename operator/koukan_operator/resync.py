"""The slow resync: what the API server has, listed and compared, in case a watch has missed something."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from koukan_operator.cache import Cache
from koukan_operator.cluster import Cluster, ClusterError, NotFound
from koukan_operator.kinds import (
    CONFIG_MAP,
    OPTIONAL,
    OWNED,
    OWNED_SELECTOR,
    RESOURCES,
    SECRET,
    SECRET_SELECTOR,
    Key,
    Kind,
)
from koukan_operator.queue import jittered
from koukan_operator.triggers import Triggers

logger = logging.getLogger("koukan.operator")

#: seconds between two resyncs, varied by a half so that operators do not ask in step
INTERVAL = 600.0
#: seconds over which a resync looks at every resource again
SPREAD = 30.0
#: seconds after which a watch that has not told what a list showed counts as dead; a living one tells within one,
#: and reconnects after 70 s of silence
WATCH_PATIENCE = 120.0


def selectors_of(kind: Kind) -> tuple[str, str]:
    """Label and field selector of what we want to know of a kind."""
    if kind in RESOURCES or kind == CONFIG_MAP:
        return "", ""
    return ("", SECRET_SELECTOR) if kind == SECRET else (OWNED_SELECTOR, "")


class Resync:
    """Lists every watched kind now and then, and watches the watches by it."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        triggers: Triggers,
        enqueue: Callable[[Key, float], Awaitable[None]],
        namespaces: Sequence[str],
    ) -> None:
        """`namespaces` are those that the operator serves, none for all of them."""
        self._enqueue = enqueue
        self._cluster = cluster
        self._cache = cache
        self._triggers = triggers
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._asked = asyncio.Event()
        #: kinds of which a list told news that their watch has not brought yet, and since when
        self._owing: dict[str, float] = {}
        self.kinds: tuple[Kind, ...] = ()

    async def find_kinds(self) -> frozenset[str]:
        """Learn which kinds the API server serves; answers the optional APIs that are complete. Raises ClusterError."""
        for kind in RESOURCES:
            if not await self._cluster.served(kind):
                raise NotFound(f"the API server has no {kind.plural}.{kind.group}; install the chart's CRDs (crds/)")
        optional = [kind for kind in OPTIONAL if await self._cluster.served(kind)]
        self.kinds = (*RESOURCES, SECRET, *OWNED, *optional)
        absent = {kind.api_version for kind in OPTIONAL if kind not in optional}
        return frozenset(kind.api_version for kind in optional) - absent

    async def once(self) -> None:
        """List everything. Raises ClusterError."""
        for kind in self.kinds:
            labels, fields = selectors_of(kind)
            for namespace in self._namespaces:
                known = self._cache.uids(kind, namespace)
                documents = await self._cluster.list(kind, namespace, labels, fields)
                if await self._triggers.listed(documents, known):
                    self._owing.setdefault(kind.name, time.monotonic())

    async def run(self) -> None:
        """Resync for ever."""
        while True:
            await self._pause()
            try:
                await self.once()
            except ClusterError as error:
                logger.warning("resync: %s", error)
                continue
            for kind in RESOURCES:
                for key in self._cache.keys(kind):
                    # Whatever the lists said: a look at what is right costs no request. Spread, to stay unnoticed.
                    await self._enqueue(key, SPREAD * random.random())

    def ask(self) -> None:
        """Have the next resync soon: a watch has started anew and may have missed that something went away."""
        self._asked.set()

    def heard(self, kind: Kind) -> None:
        """The watch of this kind lives."""
        self._owing.pop(kind.name, None)

    def trust(self) -> None:
        """Watches are about to start: what lists have told so far they do not owe."""
        self._owing.clear()

    def dead_watches(self) -> list[str]:
        """Kinds whose watch tells nothing, though a list did."""
        limit = time.monotonic() - WATCH_PATIENCE
        return sorted(kind for kind, since in self._owing.items() if since < limit)

    async def _pause(self) -> None:
        self._asked.clear()
        try:
            async with asyncio.timeout(jittered(INTERVAL)):
                await self._asked.wait()
        except TimeoutError:
            return
        # What made one watch start anew does so with the others: one resync for all of them.
        await asyncio.sleep(jittered(2.0))
