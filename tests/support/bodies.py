"""Bodies for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from koukan.blob.bodies import BytesBody


class Pieces(BytesBody):
    """A body that comes in pieces of a given size."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        content = await self.read()
        for offset in range(start, len(content), self._size):
            yield content[offset : offset + self._size]
