"""Uploads of the REST client: a body in one request, or in ranged chunks (rest-api.md §6, §7.1)."""

from __future__ import annotations

from collections.abc import Mapping

from koukan.errors import KoukanError, UpstreamError
from koukan.model import Body, Response
from koukan.rest.http import Answer, Peer, exchange, shown

#: times an upload goes on from where the server says it is
_RESTARTS = 5


class UploadRefused(KoukanError):
    """The server did not take the body; `response` is what that means for the data."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response))
        self.response = response


async def put_whole(http: Peer, uri: str, body: Body, headers: Mapping[str, str]) -> Answer:
    """The whole body in one request; a message, unless `headers` have another type. Raises UploadRefused, UpstreamError,
    BodyAborted."""
    sent = {"content-type": "message/rfc822", **headers}
    if body.length is not None:
        sent["content-length"] = str(body.length)
    # A stream, however small: it begins when there is a connection, so that its end says what the server may have.
    answer = await exchange(http, "PUT", uri, body.chunks(), sent, body.chunks if body.replayable else None)
    return _accepted(uri, answer)


async def put_ranged(http: Peer, uri: str, body: Body, size: int, headers: Mapping[str, str]) -> Answer:
    """The body in chunks of `size` bytes; the server says where to go on. `headers` go with the last one."""
    start = 0
    for _ in range(_RESTARTS):
        try:
            return await _put_from(http, uri, body, start, size, headers)
        except _GoOnFrom as state:
            if not body.replayable:
                break
            start = state.stored
    raise UpstreamError(f"{shown(uri)} lost track of the upload")


class _GoOnFrom(KoukanError):
    """The server has less, or more, than what was sent so far."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"{stored} bytes are stored")
        self.stored = stored


async def _put_from(http: Peer, uri: str, body: Body, offset: int, size: int, headers: Mapping[str, str]) -> Answer:
    pending = b""
    async for chunk in body.chunks(offset):
        pending += chunk
        while len(pending) > size:
            answer = await _put_range(http, uri, pending[:size], offset, "*", {})
            stored = _stored(answer, offset, size, uri)
            pending, offset = pending[stored - offset :], stored
    if offset == 0:
        # The whole body: a range could not say that it is empty.
        return _accepted(uri, await exchange(http, "PUT", uri, pending, headers))
    if not pending:
        finalize = {**headers, "x-finalize-blob-length": str(offset)}
        return _accepted(uri, await exchange(http, "PUT", uri, b"", finalize))
    answer = await _put_range(http, uri, pending, offset, str(offset + len(pending)), headers)
    stored = _stored(answer, offset, len(pending), uri)
    if stored < offset + len(pending):
        raise _GoOnFrom(stored)
    return answer


async def _put_range(http: Peer, uri: str, data: bytes, offset: int, total: str, headers: Mapping[str, str]) -> Answer:
    sent = {**headers, "content-range": f"bytes {offset}-{offset + len(data) - 1}/{total}"}
    return await exchange(http, "PUT", uri, data, sent)


def _stored(answer: Answer, offset: int, sent: int, uri: str) -> int:
    """The length that the server has now, which is within this chunk or at its end. Raises _GoOnFrom for any other."""
    if answer.status not in (200, 416):
        _accepted(uri, answer)
    stated = answer.headers.get("content-range", "").partition(" ")[2].partition("/")[0].partition("-")[2]
    if not stated.isdigit() and answer.status == 416:
        raise _GoOnFrom(0)  # nothing is there: a range cannot say so
    stored = int(stated) + 1 if stated.isdigit() else offset + sent
    if not offset < stored <= offset + sent:
        raise _GoOnFrom(stored)
    return stored


def _accepted(uri: str, answer: Answer) -> Answer:
    if answer.status == 200:
        return answer
    if answer.status == 413:
        raise UploadRefused(Response(552, "5.3.4 the message is too large for the next hop"))
    if answer.status == 507:
        raise UploadRefused(Response(452, "4.3.1 the next hop has no room for the message"))
    # Of this very upload, or of one that is there already: the transaction says which.
    raise UpstreamError(f"{shown(uri)} answered the upload with {answer}")
