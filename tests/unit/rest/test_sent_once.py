"""A body goes out once: whatever repeats a request, it cannot repeat an upload of which some is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from koukan.errors import UpstreamError
from koukan.rest.http import SentOnce


class Writer:
    """What aiohttp writes a body to."""

    def __init__(self) -> None:
        self.written = b""

    async def write(self, data: bytes) -> None:
        self.written += data
        if len(self.written) > 6:
            raise ConnectionResetError("cut")


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"abc", b"def", b"ghi", b"jkl"):
        yield piece


@pytest.mark.parametrize("content", [b"abcdefghi", pieces()], ids=["bytes", "stream"])
async def test_what_is_left_of_a_broken_body_is_never_sent_as_the_whole(content: bytes | AsyncIterator[bytes]) -> None:
    payload, first, second = SentOnce(content), Writer(), Writer()
    with pytest.raises(ConnectionResetError):
        await payload.write_with_length(first, 12)
    with pytest.raises(UpstreamError, match="within an upload"):
        await payload.write(second)
    assert first.written == b"abcdefghi" and second.written == b""
