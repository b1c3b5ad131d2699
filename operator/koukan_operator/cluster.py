"""The port to the cluster: what the operator asks of an API server, and how it can fail.

ClusterError
├── NotFound        no such object, or no such kind
├── Conflict        somebody else was faster: read again
├── Gone            a continue token or resource version is too old: list again
├── Invalid         the object breaks its schema, an admission policy or a quota: only an edit helps
├── Forbidden       our role does not allow it
├── Throttled       the API server asks us to wait
└── Unavailable     it could not answer (5xx, no connection, timeout)
"""

from __future__ import annotations

from typing import Protocol

from koukan.errors import KoukanError
from koukan_operator.kinds import Document, Documents, Key, Kind


class ClusterError(KoukanError):
    """The API server refused, or could not answer. `str()` is one line with what was asked and what it said."""


class NotFound(ClusterError):
    """There is no such object, or no such kind."""


class Conflict(ClusterError):
    """The object is not what we thought it was: another resource version or uid."""


class Gone(ClusterError):
    """A continue token is too old: the list starts again."""


class Invalid(ClusterError):
    """The API server will never accept this object as it is."""


class Forbidden(ClusterError):
    """Our role does not allow it, or an admission policy forbids it."""


class Throttled(ClusterError):
    """The API server asks us to wait `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ClusterError):
    """The API server could not answer now."""


class Cluster(Protocol):
    """An API server. Every method raises ClusterError; what is temporary has been tried again by then."""

    async def get(self, key: Key) -> Document:
        """One object. Raises NotFound."""
        ...

    async def list(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Documents:
        """All objects of a kind, in one namespace or (None) in all, by label selector and field selector."""
        ...

    async def apply(self, manifest: Document) -> Document:
        """Server-side apply as FIELD_MANAGER, with force; answers the object as it is now.

        A `metadata.uid` in the manifest is a condition: Conflict when the object is another one by now.
        """
        ...

    async def delete(self, key: Key, uid: str) -> None:
        """Delete the object that has this uid; its dependents follow in the background. None left is no error."""
        ...

    async def patch_status(self, key: Key, status: Document) -> Document:
        """Merge `status` into the status subresource; None in it removes a field."""
        ...

    async def create(self, document: Document) -> Document:
        """Create an object. Raises Conflict when there is one of that name."""
        ...

    async def replace(self, document: Document) -> Document:
        """Replace the object of that resource version. Raises Conflict when it has another by now."""
        ...

    async def served(self, kind: Kind) -> bool:
        """Whether the API server knows this kind."""
        ...
