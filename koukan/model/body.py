"""The body seam: message bytes that may still be growing, never copied on their way through the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator


class Body(ABC):
    """The bytes of one message (RFC 5322) or attachment.

    A body may still be growing while it is read: `chunks` then waits for more. Bodies are read as often as needed
    unless `replayable` is False. Whoever holds a body in files or buffers frees it in `close`.
    """

    #: whether `chunks` may be called more than once
    replayable: bool = True

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Bytes in all when known, else None."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether all of it has arrived."""

    @abstractmethod
    async def wait_complete(self) -> None:
        """Return when all of it has arrived. Raises BodyAborted when it never will."""

    @abstractmethod
    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from offset `start`, waiting for what has not arrived yet. Raises BodyAborted."""

    async def read(self, limit: int | None = None) -> bytes:
        """The first `limit` bytes (all of them for None) as one value. For bodies that are known to be small."""
        parts: list[bytes] = []
        got = 0
        async for chunk in self.chunks():
            parts.append(chunk)
            got += len(chunk)
            if limit is not None and got >= limit:
                break
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return whole if limit is None or len(whole) <= limit else whole[:limit]

    def abort(self, reason: str) -> None:
        """The rest will never come: readers get BodyAborted. No effect on a complete body."""

    def close(self) -> None:
        """Free what the body holds. It must not be read afterwards."""


class CompleteBody(Body):
    """A body of which everything is there from the beginning."""

    @property
    def complete(self) -> bool:
        return True

    async def wait_complete(self) -> None:
        return None
