"""A body that says when its bytes move: how a time limit on silence is told from one on the size of a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from koukan.model import Body


class ProgressBody(Body):
    """Another body, by reference.

    `moved` is called for every chunk that a reader takes, and may raise to keep it from going on; `ended` when a reader has
    taken the last one.
    """

    def __init__(self, body: Body, moved: Callable[[], None], ended: Callable[[], None] = lambda: None) -> None:
        self._body = body
        self._moved = moved
        self._ended = ended
        self.replayable = body.replayable

    @property
    def length(self) -> int | None:
        return self._body.length

    @property
    def complete(self) -> bool:
        return self._body.complete

    async def wait_complete(self) -> None:
        await self._body.wait_complete()

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        async for chunk in self._body.chunks(start):
            self._moved()
            yield chunk
        self._ended()

    async def read(self, limit: int | None = None) -> bytes:
        content = await self._body.read(limit)
        self._ended()
        return content

    def abort(self, reason: str) -> None:
        self._body.abort(reason)
