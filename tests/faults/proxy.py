"""A proxy between two HTTP peers that loses, delays, holds and falsifies exchanges as a test says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self, cast

from koukan.model import HostPort


class Kind(Enum):
    """What happens to one exchange."""

    #: the server answers, and nobody hears it
    ANSWER_LOST = "answer-lost"
    #: the server answers, and the answer takes `seconds`
    ANSWER_LATE = "answer-late"
    #: the connection is cut before the server has the request
    CUT_BEFORE = "cut-before"
    #: the connection is cut as soon as the server has the request
    CUT_AFTER = "cut-after"
    #: the request takes `seconds` to the server, also when its client has gone meanwhile
    REQUEST_LATE = "request-late"
    #: the server stands still for `seconds`, for all connections, and goes on then
    STOPPED = "stopped"
    #: something in between answers 503, and the server never sees the request
    ERROR_BEFORE = "error-before"
    #: the server does what it was asked, and something in between answers 500
    ERROR_AFTER = "error-after"
    #: the client is sent to the server by another way, as by a replica
    REDIRECT = "redirect"


@dataclass(frozen=True)
class Fault:
    """One fault."""

    kind: Kind
    seconds: float = 0

    def __str__(self) -> str:
        return f"{self.kind.value}({self.seconds:g})" if self.seconds else self.kind.value


class Proxy:
    """Passes exchanges on to `target`; `faults` says what happens to them, by their number from 0 in the order they come."""

    def __init__(self, target: HostPort, faults: Mapping[int, Fault]) -> None:
        self.target = target
        self._faults = faults
        self._numbers = itertools.count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped_until = 0.0
        #: requests in the order they came, for the report of a failed case
        self.seen: list[str] = []
        self.address = HostPort("", 0)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Peer(self._accept), "127.0.0.1", 0)
        self.address = HostPort(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, near: _Peer) -> None:
        task = asyncio.ensure_future(self._serve(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, near: _Peer) -> None:
        """One connection of the client, and its own one to the server."""
        far: _Peer | None = None
        try:
            while (request := await near.message()) is not None:
                if far is None or far.gone.done():
                    far = await self._connect()
                if far is None or not await self._exchange(request, near, far):
                    break
        finally:
            near.abort()
            if far is not None:
                far.abort()

    async def _connect(self) -> _Peer | None:
        try:
            _, far = await asyncio.get_running_loop().create_connection(_Peer, *self.target)
        except OSError:
            return None
        return far

    async def _exchange(self, request: bytes, near: _Peer, far: _Peer) -> bool:
        """One exchange. Whether the connections go on."""
        number = next(self._numbers)
        fault = self._faults.get(number)
        self.seen.append(f"{number} {request.split(b' HTTP')[0].decode()}{'' if fault is None else f' [{fault}]'}")
        if fault is None:
            return await self._pass_on(request, near, far)
        if fault.kind is Kind.STOPPED:
            self._stopped_until = max(self._stopped_until, asyncio.get_running_loop().time() + fault.seconds)
            return await self._pass_on(request, near, far)
        if fault.kind is Kind.REQUEST_LATE:
            await asyncio.sleep(fault.seconds)
            return await self._pass_on(request, near, far)
        if fault.kind in (Kind.CUT_BEFORE, Kind.ERROR_BEFORE, Kind.REDIRECT):
            return self._answered_here(fault.kind, request, near)
        return await self._answer_spoilt(fault, request, near, far)

    def _answered_here(self, kind: Kind, request: bytes, near: _Peer) -> bool:
        """The server never sees the request."""
        if kind is Kind.ERROR_BEFORE:
            near.send(_response("503 Service Unavailable"))
        elif kind is Kind.REDIRECT:
            path = request.split(b" ")[1].decode()
            near.send(_response("308 Permanent Redirect", f"location: http://{self.address}{path}\r\n"))
        return kind is not Kind.CUT_BEFORE

    async def _answer_spoilt(self, fault: Fault, request: bytes, near: _Peer, far: _Peer) -> bool:
        """The server sees the request, and its client hears something else, later, or nothing."""
        await self._awake()
        far.send(request)
        if fault.kind is Kind.CUT_AFTER:
            near.abort()
            return False
        answer = await far.message()
        if fault.kind is Kind.ANSWER_LOST or answer is None:
            return False
        if fault.kind is Kind.ERROR_AFTER:
            answer = _response("500 Internal Server Error")
        await asyncio.sleep(fault.seconds)
        near.send(answer)
        return True

    async def _pass_on(self, request: bytes, near: _Peer, far: _Peer) -> bool:
        await self._awake()
        far.send(request)
        answering = asyncio.ensure_future(far.message())
        try:
            await asyncio.wait([answering, near.gone], return_when=asyncio.FIRST_COMPLETED)
            await self._awake()  # a server that stands still does not hear either that its client has gone
            if not answering.done() or (answer := answering.result()) is None:
                return False
        finally:
            answering.cancel()
        near.send(answer)
        return True

    async def _awake(self) -> None:
        """Returns when the server does not stand still."""
        now = asyncio.get_running_loop().time()
        if now < self._stopped_until:
            await asyncio.sleep(self._stopped_until - now)


class _Peer(asyncio.Protocol):
    """One end of a connection: whole HTTP messages in the order they come."""

    transport: asyncio.Transport

    def __init__(self, connected: Callable[[_Peer], None] = lambda peer: None) -> None:
        self._connected = connected
        self._buffer = b""
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connected(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := _end(self._buffer)) is not None:
            self._messages.put_nowait(self._buffer[:end])
            self._buffer = self._buffer[end:]

    def connection_lost(self, error: Exception | None) -> None:
        self._messages.put_nowait(None)
        if not self.gone.done():
            self.gone.set_result(None)

    async def message(self) -> bytes | None:
        """The next message; None when there is none any more."""
        return await self._messages.get()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        # What has been sent arrives all the same: an aborted transport would throw it away.
        self.transport.close()


def _end(data: bytes) -> int | None:
    """Where the first HTTP message ends; None when it is not complete."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    fields = {name.strip().lower(): value.strip() for name, _, value in map(_field, data[:head].split(b"\r\n")[1:])}
    begin = head + 4
    if fields.get(b"transfer-encoding") == b"chunked":
        end = data.find(b"\r\n0\r\n\r\n", begin - 2)
        return None if end < 0 else end + 7
    end = begin + int(fields.get(b"content-length", b"0"))
    return end if len(data) >= end else None


def _field(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")


def _response(status: str, fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{fields}content-length: 0\r\n\r\n".encode()
