"""The receiving ends of uploads: to memory and spool, to the database, or to both."""

from __future__ import annotations

import asyncio

from koukan.blob.spool import SpooledBody
from koukan.errors import StoreError
from koukan.rest.blobs import BODY, BlobWriter
from koukan.rest.problems import Conflict
from koukan.rest.resource import Resource
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
        """Raises Conflict when the attempt has ended meanwhile: nobody reads the rest."""
        resource = self._resource
        resource.expect_client()
        if resource.ended or resource.finished:
            raise Conflict("the transaction has ended")
        self._grow(data, total=total, last=last)

    def _grow(self, data: bytes, *, total: int | None, last: bool) -> None:
        resource = self._resource
        self._length = total
        if data:
            self._spool.append(data)
        if last:
            self._spool.finish()
        resource.heard()
        started = self._name == BODY and resource.body is None and not resource.ended
        if started:
            resource.body = self._spool
        if last or started:
            resource.touch()

    def heard(self) -> None:
        self._resource.heard()

    def interrupted(self) -> None:
        """The client may come back and send the rest; if it does not, its silence ends the attempt."""


class DurableWriter(SpoolWriter):
    """The same for a durable transaction: in the database first, then where the attempt reads it.

    The attempt may end meanwhile; the transaction goes on waiting for its bytes, as it does after a crash.
    """

    def __init__(self, resource: Resource, name: str, spool: SpooledBody, store: Store) -> None:
        super().__init__(resource, name, spool)
        self._store = store
        self._state = BlobState(0, None)

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def length(self) -> int | None:
        return self._state.length

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        resource, end = self._resource, self.size + len(data)
        if resource.cancelled:
            raise Conflict("the transaction has been cancelled")
        stored = await self._store.append(resource.id, self._name, self.size, data, end if last else total)
        if stored.size < end or (last and not stored.complete):
            raise StoreError(f"{resource.id}: the stored blob {self._name!r} has another state")
        # More may be stored, of an upload that broke off while it was written: here it has not arrived.
        self._state = BlobState(end, stored.length)
        if not resource.ended and not resource.timed_out:
            self._grow(data, total=total, last=last)


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

    def heard(self) -> None:
        """Nobody waits for it."""

    def interrupted(self) -> None:
        """What is stored is stored; the client goes on from there."""
