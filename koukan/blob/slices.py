"""A part of another body, by reference: how many small bodies share one spool."""

from __future__ import annotations

from collections.abc import AsyncIterator

from koukan.model import Body, CompleteBody


class SliceBody(CompleteBody):
    """`length` bytes of a replayable body from offset `begin`, all of which have arrived."""

    def __init__(self, whole: Body, begin: int, length: int) -> None:
        self._whole = whole
        self._begin = begin
        self._length = length

    @property
    def length(self) -> int:
        return self._length

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        left = self._length - start
        if left <= 0:
            return
        async for chunk in self._whole.chunks(self._begin + start):
            yield chunk if len(chunk) <= left else chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
