"""Uploads of our REST client: whole, in ranges, going on where the server is, refused, broken off (rest-api.md §6, §7.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from koukan.blob.bodies import BytesBody
from koukan.blob.stream import StreamBody
from tests.support.oldserver import OldServer, Seen
from tests.support.rest_client import LARGE, Open, codes, deliver, failing, opener


@pytest.fixture
async def open_(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    async with opener(monkeypatch) as open_:
        yield open_


async def stream(content: bytes, *, aborted: bool = False) -> StreamBody:
    """A body that passes through once."""
    body = StreamBody(limit=10 * len(content) + 1)
    await body.write(content)
    if aborted:
        body.abort("the client went away")
    else:
        body.finish()
    return body


@pytest.mark.parametrize("size", [100_000, len(LARGE), len(LARGE) + 1, len(LARGE) - 1])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("says_range", [False, True])
async def test_ranges(open_: Open, size: int, streamed: bool, says_range: bool) -> None:
    async with OldServer(says_range=says_range) as server:
        body = await stream(LARGE) if streamed else BytesBody(LARGE)
        assert codes(await deliver(open_(server.url, chunk_size=size), body)) == [250, 250, 250]
        assert server.stored == LARGE
        puts = [(seen.headers.get("content-range"), len(seen.body)) for seen in server.sent("PUT")]
    if size >= len(LARGE):
        assert puts == [(None, len(LARGE))]
    else:
        assert puts[0] == (f"bytes 0-{size - 1}/*", size)
        assert puts[-1][0] is not None and puts[-1][0].endswith(f"-{len(LARGE) - 1}/{len(LARGE)}")


async def test_an_empty_body_has_no_range(open_: Open) -> None:
    for body in (await stream(b""), BytesBody(b"")):
        async with OldServer() as server:
            assert codes(await deliver(open_(server.url, chunk_size=1000), body)) == [250, 250, 250]
            assert [seen.headers.get("content-range") for seen in server.sent("PUT")] == [None]


@pytest.mark.parametrize("kept", [0, 30_000])
async def test_an_upload_goes_on_where_the_server_is(open_: Open, kept: int) -> None:
    """It has lost what it had confirmed, as after a restart."""
    async with OldServer() as server:

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            if seen.method == "PUT" and len(server.sent("PUT")) == 2:
                server.stored = server.stored[:kept]
            return None

        server.intercept = intercept
        assert codes(await deliver(open_(server.url, chunk_size=100_000), BytesBody(LARGE))) == [250, 250, 250]
        assert server.stored == LARGE


async def test_an_upload_that_the_server_never_understands_ends(open_: Open) -> None:
    async with OldServer() as server:
        failing(server, "PUT", times=1000, how=416)
        result = await deliver(open_(server.url, chunk_size=100_000), BytesBody(LARGE))
        assert result.data is not None and result.data.code == 450


@pytest.mark.parametrize(("status", "code"), [(413, 552), (507, 452), (500, 450), (404, 450), (409, 450)])
@pytest.mark.parametrize("chunk_size", [None, 100_000])
async def test_refused_uploads(open_: Open, status: int, code: int, chunk_size: int | None) -> None:
    async with OldServer() as server:
        failing(server, "PUT", times=1000, how=status)
        result = await deliver(open_(server.url, chunk_size=chunk_size), BytesBody(LARGE))
        assert result.data is not None and result.data.code == code


@pytest.mark.parametrize("chunk_size", [None, 100_000])
async def test_a_body_that_breaks_off_is_never_finished(open_: Open, chunk_size: int | None) -> None:
    async with OldServer() as server:
        body = await stream(LARGE, aborted=True)
        result = await deliver(open_(server.url, chunk_size=chunk_size), body)
        assert result.data is not None and result.data.code == 451
        assert server.length is None
