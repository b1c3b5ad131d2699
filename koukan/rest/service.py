"""The seam between the REST handlers and the two programs: who owns transactions and what may be done with them."""

from __future__ import annotations

from typing import Protocol

from koukan.model.documents import CreateRequest, UpdateRequest
from koukan.rest.blobs import BlobWriter
from koukan.rest.resource import Resource


class TransactionService(Protocol):
    """What a router and a gateway offer over REST. Every method may raise a Refusal."""

    #: base URL of this process, for Location and unfinished blobs
    session_uri: str
    #: base URL of all replicas, for what any of them can serve
    service_uri: str
    #: bytes of the largest body
    max_message_size: int

    async def not_ready(self) -> str | None:
        """Why new transactions should go elsewhere; None when they may come."""
        ...

    async def create(self, sender: str, request: CreateRequest) -> Resource:
        """A new transaction; returns when what 201 promises is true."""
        ...

    async def find(self, tx_id: str) -> Resource:
        """The transaction as it is now."""
        ...

    async def wait_change(self, resource: Resource, timeout: float) -> Resource:
        """The transaction when its version is another than that of `resource` was, or after `timeout` seconds."""
        ...

    async def update(self, resource: Resource, request: UpdateRequest) -> None:
        """Add what the request holds; an empty one is a heartbeat."""
        ...

    async def open_blob(self, tx_id: str, blob: str) -> tuple[Resource, BlobWriter]:
        """The receiving end of an upload."""
        ...

    async def cancel(self, tx_id: str) -> bool:
        """End the transaction unless it has ended. False: there is none, where peers want no 404 for that."""
        ...
