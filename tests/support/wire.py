"""HTTP byte by byte, and a peer as strict as the existing Koukan's client (rest-api.md §7.3)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from koukan.model.documents import RESPONSE_FIELDS

TIMEOUT = 40.0
JSON = {"content-type": "application/json"}
#: what must stay as it was once it has been seen
_CONSTANT = ("mail_response", "data_response", "attempt_count", "retry", "notification", "final_attempt_reason")


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def body_uri(reply: Reply) -> str:
    """Where the body of a transaction is uploaded."""
    uri: str = reply.json["body"]["blob_status"]["uri"]
    return uri


async def request(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    chunks: Sequence[bytes] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """One request on a connection of its own. `chunks`: with chunked transfer encoding."""
    parts = urlsplit(url)
    sent = {"host": parts.netloc, "connection": "close", **(headers or {})}
    payload = body or b""
    if chunks is not None:
        sent["transfer-encoding"] = "chunked"
        payload = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    elif body is not None:
        sent.setdefault("content-length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
        try:
            writer.write(f"{method} {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + payload)
            return _parsed(await reader.read())
        finally:
            writer.close()


def _parsed(answer: bytes) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return Reply(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


@dataclass
class View:
    """One transaction as a strict client has seen it so far; `see` fails the test when the server breaks a rule."""

    sent: Mapping[str, Any]
    rcpts: int = 0
    seen: dict[str, Any] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)

    def see(self, document: Any) -> None:
        assert isinstance(document, dict)
        assert set(document) <= RESPONSE_FIELDS
        assert all(value is not None and value != [] for value in document.values())
        for name in ("mail_from", "sender", "filter_output"):
            assert document.get(name, {}) == {}
        for name in ("remote_host", "local_host"):
            assert document.get(name) == self.sent.get(name)
        self._see_recipients(document)
        for name in _CONSTANT:
            if name in self.seen:
                assert document.get(name) == self.seen[name], name
        for name in ("mail_response", "data_response"):
            assert set(document.get(name, {"code": 0, "message": ""})) == {"code", "message"}
        self._see_body(document.get("body"))
        self.seen = document

    def new_attempt(self) -> None:
        """The server has begun to try again: its answers start anew."""
        for name in ("mail_response", "rcpt_response", "data_response", "attempt_count"):
            self.seen.pop(name, None)

    def _see_recipients(self, document: Mapping[str, Any]) -> None:
        placeholders = document.get("rcpt_to", [])
        assert len(placeholders) >= self.rcpts and all(placeholder == {} for placeholder in placeholders)
        before, answers = self.seen.get("rcpt_response", []), document.get("rcpt_response", [])
        assert answers[: len(before)] == before and len(answers) <= len(placeholders)

    def _see_body(self, body: Any) -> None:
        before = _blobs(self.seen.get("body"))
        after = _blobs(body)
        if before:
            assert set(before) == set(after)
        for name, status in after.items():
            assert set(status) <= {"uri", "finalized"} and status.get("finalized", True) is True
            path = urlsplit(status["uri"])
            assert path.scheme and path.netloc, "must be absolute"
            if name in before:
                assert path.path == urlsplit(before[name]["uri"]).path
                assert "finalized" in status or "finalized" not in before[name]
            assert "finalized" in status or path.path not in self.uploaded, "must be final at the first look"


def _blobs(body: Any) -> Mapping[str, Any]:
    if body is None:
        return {}
    assert len(body) == 1
    if "blob_status" in body:
        return {"": body["blob_status"]}
    return dict(body["message_builder"]["blob_status"])


class Peer:
    """A client that holds every answer of one server against the rules."""

    def __init__(self, base: str, tls: ssl.SSLContext | None = None) -> None:
        self.base = base
        self.views: dict[str, View] = {}
        self._tls = tls

    async def create(
        self, sender: str, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[str, Reply]:
        """POST that succeeds: the location, and the reply."""
        url = f"{self.base}/senders/{sender}/transactions"
        reply = await request("POST", url, json.dumps(document).encode(), {**JSON, **(headers or {})}, tls=self._tls)
        assert reply.status == 201, reply.text
        location = reply.headers["location"]
        assert urlsplit(location).netloc, "must be absolute"
        self.views[urlsplit(location).path] = View(document, len(document.get("rcpt_to", [])))
        self._look(location, reply)
        return location, reply

    async def get(self, location: str, etag: str | None = None, timeout: int | None = None) -> Reply:
        headers = {} if etag is None else {"if-none-match": etag}
        if timeout is not None:
            headers["request-timeout"] = str(timeout)
        reply = await request("GET", location, None, headers, tls=self._tls)
        if reply.status == 304:
            assert reply.headers["etag"] == etag and reply.body == b""
        else:
            self._look(location, reply)
        return reply

    async def patch(
        self, location: str, etag: str, document: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """PATCH with a document, or a heartbeat."""
        sent = {"if-match": etag, **(headers or {}), **({} if document is None else JSON)}
        body = b"" if document is None else json.dumps(document).encode()
        reply = await request("PATCH", location, body, sent, tls=self._tls)
        if reply.status == 200 and isinstance(document, dict):
            self.views[urlsplit(location).path].rcpts += len(document.get("rcpt_to", []))
        self._look(location, reply)
        return reply

    async def put(
        self,
        uri: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        chunks: Sequence[bytes] | None = None,
    ) -> Reply:
        """PUT of `body`, or of `chunks` with chunked transfer encoding."""
        content = None if chunks is not None else body
        reply = await request("PUT", uri, content, headers, chunks=chunks, tls=self._tls)
        if reply.status == 200:
            assert reply.headers["content-type"] == "application/json"
            path = urlsplit(uri).path
            state = reply.headers.get("content-range", "bytes 0--1/0")
            stored, _, total = state.removeprefix("bytes 0-").partition("/")
            if total == str(int(stored) + 1):
                self.views[path.rsplit("/", 2 if "/blob/" in path else 1)[0]].uploaded.add(path)
        return reply

    async def until(self, location: str, wanted: str, count: int = 1) -> Reply:
        """Long polls until the document has the field `wanted`, with `count` elements if it is a list."""
        async with asyncio.timeout(TIMEOUT):
            reply = await self.get(location)
            while True:
                value = reply.json.get(wanted, [])
                if value and (not isinstance(value, list) or len(value) >= count):
                    return reply
                etag = reply.headers["etag"]
                while (reply := await self.get(location, etag, 10)).status == 304:
                    continue
                assert reply.status == 200 and reply.headers["etag"] != etag

    def _look(self, location: str, reply: Reply) -> None:
        if reply.status not in (200, 201):
            return
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["etag"]
        self.views[urlsplit(location).path].see(reply.json)
