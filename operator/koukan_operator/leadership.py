"""Which of several operators acts: the holder of a Lease. The others keep up with the cluster and wait."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from koukan_operator import metrics
from koukan_operator.cluster import Cluster, ClusterError, Conflict, NotFound
from koukan_operator.kinds import LEASE, Document, Key
from koukan_operator.queue import jittered

logger = logging.getLogger("koukan.operator")

#: seconds that a lease holds; a holder that cannot renew it stops acting after RENEW_DEADLINE, so before anyone else starts
DURATION = 15
RENEW_DEADLINE = 10.0
#: seconds between renewals, and between looks at another's lease
INTERVAL = 3.0


class Leadership:
    """Holds a lease or waits for it. `leading` is set while this process is the one that acts."""

    def __init__(self, cluster: Cluster, lease: Key | None, identity: str) -> None:
        """Without a lease this process always acts: server-side apply of the same content by two is harmless."""
        self._cluster = cluster
        self._lease = lease
        self._identity = identity
        self._renewed = 0.0
        #: what the other holder wrote last, and when we first saw it: expiry goes by our clock alone
        self._seen: tuple[str, float] = ("", 0.0)
        self.leading = asyncio.Event()
        if lease is None:
            self._lead()

    async def run(self) -> None:
        """Hold the lease for as long as possible, for ever."""
        while self._lease is not None:
            try:
                async with asyncio.timeout(RENEW_DEADLINE / 2):
                    held = await self._renew(self._lease)
            except (ClusterError, TimeoutError) as error:
                logger.warning("lease %s: %s", self._lease, error or "no answer in time")
                held = self.leading.is_set() and time.monotonic() - self._renewed < RENEW_DEADLINE
            if held and not self.leading.is_set():
                self._lead()
            elif not held and self.leading.is_set():
                self._follow()
            await asyncio.sleep(jittered(INTERVAL))
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Let another one go on at once."""
        if self._lease is None or not self.leading.is_set():
            return
        self._follow()
        try:
            document = await self._cluster.get(self._lease)
            if document["spec"].get("holderIdentity") == self._identity:
                document["spec"]["holderIdentity"] = ""
                await self._cluster.replace(document)
        except ClusterError as error:
            logger.warning("lease %s: not released: %s", self._lease, error)

    async def _renew(self, lease: Key) -> bool:
        now = time.monotonic()
        try:
            document = await self._cluster.get(lease)
        except NotFound:
            document = None
        if document is not None and not self._is_free(document["spec"], now):
            return False
        try:
            if document is None:
                await self._cluster.create(self._document(lease, {}, 0))
            else:
                transitions = document["spec"].get("leaseTransitions") or 0
                ours = document["spec"].get("holderIdentity") == self._identity
                spec = document["spec"] if ours else {}
                version = {"resourceVersion": document["metadata"]["resourceVersion"]}
                await self._cluster.replace(self._document(lease, spec, transitions + (not ours), version))
        except Conflict:
            return False
        self._renewed = now
        return True

    def _is_free(self, spec: Document, now: float) -> bool:
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        written = f"{holder} {spec.get('renewTime')}"
        if written != self._seen[0]:
            self._seen = (written, now)
        return now - self._seen[1] > (spec.get("leaseDurationSeconds") or DURATION)

    def _document(self, lease: Key, spec: Document, transitions: int, version: Document | None = None) -> Document:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"namespace": lease.namespace, "name": lease.name, **(version or {})},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION,
                "acquireTime": spec.get("acquireTime") or now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    def _lead(self) -> None:
        self.leading.set()
        metrics.LEADER.set(1)
        if self._lease is not None:
            logger.info("acting: lease %s is ours", self._lease)

    def _follow(self) -> None:
        self.leading.clear()
        metrics.LEADER.set(0)
        logger.info("waiting: lease %s is another's", self._lease)
