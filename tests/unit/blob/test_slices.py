import pytest

from koukan.blob.bodies import CHUNK_SIZE, BytesBody
from koukan.blob.slices import SliceBody


@pytest.mark.parametrize(("begin", "length"), [(0, 10), (3, 4), (9, 1), (5, 0), (10, 0)])
async def test_a_slice_is_that_part_of_the_whole(begin: int, length: int) -> None:
    body = SliceBody(BytesBody(b"0123456789"), begin, length)
    assert await body.read() == b"0123456789"[begin : begin + length]
    assert (body.length, body.complete) == (length, True)


async def test_slices_over_many_chunks() -> None:
    whole = bytes(range(256)) * (CHUNK_SIZE // 64)
    body = SliceBody(BytesBody(whole), 1000, 3 * CHUNK_SIZE)
    part = whole[1000 : 1000 + 3 * CHUNK_SIZE]
    for start in (0, 1, CHUNK_SIZE, 3 * CHUNK_SIZE - 1, 3 * CHUNK_SIZE, 3 * CHUNK_SIZE + 5):
        assert b"".join([chunk async for chunk in body.chunks(start)]) == part[start:]
