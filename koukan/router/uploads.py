"""The receiving ends of uploads: to memory and spool, to the database, or to both."""

from __future__ import annotations

import asyncio

from koukan import clock
from koukan.blob.spool import SpooledBody
from koukan.errors import StoreError
from koukan.rest.resource import BODY, BlobWriter, Resource
from koukan.storage.store import BlobState, Store


class SpoolWriter(BlobWriter):
    """A blob of a transaction in memory; the attempt reads it while it grows."""

    overlap_allowed = True

    def __init__(self, resource: Resource, name: str, spool: SpooledBody) -> None:
        self._resource = resource
        self._name = name
        self._spool = spool
        self._length: int | None = None
        self.lock = asyncio.Lock()

    @property
    def size(self) -> int:
        return self._spool.size

    @property
    def length(self) -> int | None:
        return self._spool.size if self._spool.complete else self._length

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        resource = self._resource
        self._length = total
        if data:
            self._spool.append(data)
        if last:
            self._spool.finish()
        resource.last_input = clock.now()
        started = self._name == BODY and resource.body is None and not resource.ended
        if started:
            resource.body = self._spool
        if last or started:
            resource.touch()

    def interrupted(self) -> None:
        """The client may come back and send the rest; if it does not, its silence ends the attempt."""


class DurableWriter(SpoolWriter):
    """The same for a durable transaction: in the database first, then where the attempt reads it."""

    def __init__(self, resource: Resource, name: str, spool: SpooledBody, store: Store) -> None:
        super().__init__(resource, name, spool)
        self._store = store

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        length = self.size + len(data) if last else total
        end = self.size + len(data)
        stored = await self._store.append(self._resource.id, self._name, self.size, data, length)
        if stored.size < end or (last and not stored.complete):
            raise StoreError(f"{self._resource.id}: the stored blob {self._name!r} has another state")
        await super().append(data, total=total, last=last)


class StoreWriter(BlobWriter):
    """A blob of a transaction that no attempt runs for: between retries, or left behind by a replica that died."""

    overlap_allowed = True

    def __init__(self, store: Store, tx_id: str, name: str, state: BlobState) -> None:
        self._store = store
        self._tx_id = tx_id
        self._name = name
        self._state = state
        self.lock = asyncio.Lock()

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def length(self) -> int | None:
        return self._state.length

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        length = self.size + len(data) if last else total
        self._state = await self._store.append(self._tx_id, self._name, self.size, data, length)

    def interrupted(self) -> None:
        """What is stored is stored; the client goes on from there."""
