"""A REST server with the manners of the existing Koukan (rest-api.md §3-6): it knows no `Prefer`, and answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from koukan.listener import HttpListener
from koukan.model import HostPort

OK = {"code": 250, "message": "ok"}


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


#: answers a request in place of the server, or with None lets the server answer; may raise to cut the connection
Intercept = Callable[[Seen], Awaitable[web.StreamResponse | None]]


@dataclass
class OldServer:
    """One transaction. `silent_polls` are answered 304 at once before each answer is there."""

    mail: Mapping[str, Any] = field(default_factory=lambda: OK)
    rcpt: list[Mapping[str, Any]] = field(default_factory=lambda: [OK] * 9)
    data: Mapping[str, Any] = field(default_factory=lambda: OK)
    silent_polls: int = 0
    #: `location` of 201, with {base}
    location: str = "{base}/transactions/T"
    etag: str = "{version}"
    #: reports of the body right after its upload that say that it is not complete yet (W-25)
    late_reports: int = 0
    #: a router that tries again while it is looked at: each answer comes with a higher attempt_count (W-24)
    retries: bool = False
    #: PUT says what is stored
    says_range: bool = True
    intercept: Intercept | None = None
    requests: list[Seen] = field(default_factory=list)
    stored: bytes = b""
    length: int | None = None
    version: int = 1
    _rcpts: int = 0
    _answered: dict[str, Any] = field(default_factory=dict)
    _silent: int = 0
    _listener: HttpListener = field(default_factory=lambda: HttpListener("old server"))

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        await self._listener.start(app, HostPort("127.0.0.1", 0), handler_cancellation=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._listener.stop()

    async def stop(self) -> None:
        await self._listener.stop()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._listener.address.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/senders/x/transactions"

    def sent(self, method: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.method == method]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.method, request.rel_url.raw_path, headers, await request.read())
        self.requests.append(seen)
        instead = await self.intercept(seen) if self.intercept is not None else None
        if instead is not None:
            return instead
        handler = {"POST": self._post, "GET": self._get, "PATCH": self._patch, "PUT": self._put}[seen.method]
        return handler(seen)

    def _post(self, seen: Seen) -> web.StreamResponse:
        if seen.path.endswith("/cancel"):
            return web.Response(text="")
        self._rcpts = len(seen.json.get("rcpt_to", []))
        self._silent = self.silent_polls
        return self.answer(201, {"location": self.location.format(base=self.base)})

    def _patch(self, seen: Seen) -> web.StreamResponse:
        if seen.headers["if-match"] != self._etag:
            return web.Response(status=412, text="conflict")
        if seen.body:
            self._rcpts += len(seen.json.get("rcpt_to", []))
        self.version += 1
        self._silent = self.silent_polls
        return self.answer(200)

    def _get(self, seen: Seen) -> web.StreamResponse:
        if seen.headers.get("if-none-match") == self._etag and (self._silent > 0 or not self._progress()):
            self._silent -= 1
            return web.Response(status=304, headers={"etag": self._etag})
        return self.answer(200)

    def _put(self, seen: Seen) -> web.StreamResponse:
        given = seen.headers.get("content-range")
        first, total = 0, str(len(seen.body))
        if given is not None:
            span, _, total = given.removeprefix("bytes ").partition("/")
            first = int(span.partition("-")[0])
        if first == len(self.stored):
            self.stored += seen.body
            self.length = None if total == "*" else int(total)
            status = 200
        else:
            status = 416
        self._silent = self.silent_polls
        state = f"bytes 0-{len(self.stored) - 1}/{'*' if self.length is None else self.length}"
        headers = {"content-range": state} if self.says_range and self.stored else {}
        return web.Response(status=status, body=b"{}", headers={**headers, "content-type": "application/json"})

    def _progress(self) -> bool:
        """The next answer that is due; False when there is none."""
        answers: list[Any] = self._answered.setdefault("rcpt_response", [])
        if "mail_response" not in self._answered:
            self._answered["mail_response"] = self.mail
        elif len(answers) < self._rcpts:
            answers.append(self.rcpt[len(answers)])
        elif self._complete and "data_response" not in self._answered:
            self._answered["data_response"] = self.data
        else:
            return False
        self.version += 1
        return True

    @property
    def _complete(self) -> bool:
        return self.length is not None and len(self.stored) == self.length

    @property
    def _etag(self) -> str:
        return self.etag.format(version=self.version)

    def answer(self, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
        """The transaction as it is."""
        blob: dict[str, Any] = {"uri": f"{self.base}/transactions/T/body"}
        if self._complete:
            blob |= {"finalized": True} if self.late_reports <= 0 else {}
            self.late_reports -= 1
        document = {"mail_from": {}, "rcpt_to": [{}] * self._rcpts, "body": {"blob_status": blob}, **self._answered}
        if self.retries:
            document["attempt_count"] = self.version
        return web.Response(
            status=status,
            body=json.dumps({name: value for name, value in document.items() if value != []}).encode(),
            content_type="application/json",
            headers={"etag": self._etag, **(headers or {})},
        )
