"""A sample application that takes mail by REST: envelope, parsed message, attachments, raw bytes (rest-api.md §8).

Per transaction it leaves in its directory `ID.json` (envelope, filter_output and the parsed message), `ID.eml` (the raw
message) and `ID.BLOB` (each attachment). Write your own in any language: these six routes are all it takes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from koukan.dev.output import make_directory
from koukan.listener import HttpListener
from koukan.model import HostPort
from koukan.rest.remote import ATTEMPT_HEADER, TRANSACTION_HEADER

#: bytes of the largest upload
UPLOAD_LIMIT = 64 * 1024 * 1024

#: blob ids name files here
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_OK = {"code": 250, "message": "2.0.0 ok"}


@dataclass(slots=True)
class ReceivedTransaction:
    """One transaction as it was received."""

    id: str
    #: the create request
    envelope: Mapping[str, Any]
    #: the sender's own id of it and the number of its attempt: the same id again is the same message again
    transaction: str | None = None
    attempt: str | None = None
    filter_output: dict[str, Any] = field(default_factory=dict)
    #: the parsed message (message-json.md §2), for routes with receive_parsing
    message: Mapping[str, Any] | None = None
    #: attachments by blob id; None: not uploaded yet
    blobs: dict[str, bytes | None] = field(default_factory=dict)
    body: bytes | None = None
    cancelled: bool = False
    version: int = 1


class Receiver:
    """The application. `transactions` holds everything by id."""

    def __init__(
        self, directory: Path | None = None, arrived: Callable[[ReceivedTransaction], None] = lambda received: None
    ) -> None:
        self.transactions: dict[str, ReceivedTransaction] = {}
        self._directory = directory
        self._arrived = arrived
        self._listener = HttpListener("receiver")

    async def start(self, address: HostPort) -> None:
        """Listen. Raises StartupError when the address is taken."""
        if self._directory is not None:
            make_directory(self._directory)
        app = web.Application(client_max_size=UPLOAD_LIMIT)
        app.router.add_post("/senders/{sender}/transactions", self._create)
        app.router.add_post("/mail", self._create)
        app.router.add_get("/transactions/{id}", self._get)
        app.router.add_patch("/transactions/{id}", self._patch)
        app.router.add_post("/transactions/{id}/message_builder", self._message)
        app.router.add_put("/transactions/{id}/blob/{blob}", self._put_blob)
        app.router.add_put("/transactions/{id}/body", self._put_body)
        app.router.add_post("/transactions/{id}/cancel", self._cancel)
        app.router.add_get("/healthz", self._healthz)
        await self._listener.start(app, address)

    async def stop(self) -> None:
        await self._listener.stop()

    @property
    def address(self) -> HostPort:
        return self._listener.address

    # --- routes ----------------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.StreamResponse:
        document = await _json(request)
        headers = request.headers
        received = ReceivedTransaction(
            _new_id(), document, headers.get(TRANSACTION_HEADER), headers.get(ATTEMPT_HEADER)
        )
        received.filter_output.update(document.get("filter_output", {}))
        self.transactions[received.id] = received
        location = _base(request, received)
        return self._answer(request, received, 201, {"location": location})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return self._answer(request, self._find(request))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        received = self._find(request)
        update = await _json(request) if request.body_exists else {}
        if set(update) - {"filter_output"}:
            raise web.HTTPBadRequest(text="only filter_output can be updated here")
        received.filter_output.update(update.get("filter_output", {}))
        received.version += 1
        return self._answer(request, received)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        received = self._find(request)
        received.message = await _json(request)
        received.blobs = dict.fromkeys(_blob_ids(received.message))
        for name in received.blobs:
            if not _PLAIN_ID.fullmatch(name) or name in ("json", "eml"):
                raise web.HTTPBadRequest(
                    text=f"blob id {name!r}: letters, digits, - and _ only, and neither json nor eml"
                )
        received.version += 1
        return self._answer(request, received)

    async def _put_blob(self, request: web.Request) -> web.StreamResponse:
        received = self._find(request)
        name = request.match_info["blob"]
        if name not in received.blobs:
            raise web.HTTPNotFound(text=f"the message has no blob {name!r}")
        received.blobs[name] = await _whole(request)
        received.version += 1
        return _empty()

    async def _put_body(self, request: web.Request) -> web.StreamResponse:
        received = self._find(request)
        content = await _whole(request)
        if received.cancelled:
            raise web.HTTPConflict(text="the transaction has been cancelled")
        # A router that heard no answer may send it again: it arrives once.
        if received.body is None:
            received.body = content
            received.version += 1
            self._keep(received)
            self._arrived(received)
        return _empty()

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self._find(request).cancelled = True
        return web.Response(text="")

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    # --- what they share -------------------------------------------------------------------------------------------------

    def _find(self, request: web.Request) -> ReceivedTransaction:
        found = self.transactions.get(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="unknown transaction")
        return found

    def _answer(
        self,
        request: web.Request,
        received: ReceivedTransaction,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        base = _base(request, received)
        document: dict[str, Any] = {k: v for k, v in received.envelope.items() if k in ("remote_host", "local_host")}
        document["mail_from"], document["mail_response"] = {}, _OK
        document["rcpt_to"] = [{} for _ in received.envelope.get("rcpt_to", [])]
        document["rcpt_response"] = [_OK for _ in document["rcpt_to"]]
        builder: dict[str, Any] = {"uri": f"{base}/message_builder"}
        if received.message is not None:
            builder = {"blob_status": {name: _blob(base, name, data) for name, data in received.blobs.items()}}
        done = received.body is not None
        document["body"] = {"blob_status": {"uri": f"{base}/body", "finalized": done}, "message_builder": builder}
        if done:
            document["data_response"] = _OK
        return web.Response(
            status=status,
            body=orjson.dumps(document),
            content_type="application/json",
            headers={"etag": f'"{received.version}"', **(headers or {})},
        )

    def _keep(self, received: ReceivedTransaction) -> None:
        if self._directory is None or received.body is None:
            return
        stem = self._directory / received.id
        summary = {
            "transaction": received.transaction,
            "attempt": received.attempt,
            "envelope": received.envelope,
            "filter_output": received.filter_output,
            "message": received.message,
        }
        _write(stem.with_suffix(".json"), orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        _write(stem.with_suffix(".eml"), received.body)
        for name, data in received.blobs.items():
            if data is not None:
                _write(stem.with_suffix(f".{name}"), data)


def _new_id() -> str:
    """In the order of arrival, and never again: what a router still knows of before a restart is none of what comes after."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(8)}"


def _write(path: Path, data: bytes) -> None:
    """A file that was not there before: what has been answered 250 stays."""
    with path.open("xb") as file:
        file.write(data)


def _base(request: web.Request, received: ReceivedTransaction) -> str:
    return f"{request.url.origin()}/transactions/{received.id}"


def _blob(base: str, name: str, data: bytes | None) -> dict[str, Any]:
    return {"uri": f"{base}/blob/{name}", "finalized": data is not None}


def _blob_ids(node: Any) -> Iterator[str]:
    """The ids of all blobs that a parsed message refers to."""
    if isinstance(node, dict):
        content = node.get("content")
        if isinstance(content, dict) and "create_id" in content:
            yield str(content["create_id"])
        for value in node.values():
            yield from _blob_ids(value)
    elif isinstance(node, list):
        for item in node:
            yield from _blob_ids(item)


async def _json(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="content-type must be application/json")
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise web.HTTPBadRequest(text=f"invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise web.HTTPBadRequest(text="must be a JSON object")
    return document


async def _whole(request: web.Request) -> bytes:
    if "content-range" in request.headers:
        raise web.HTTPBadRequest(text="this receiver takes whole uploads only")
    return await request.read()


def _empty() -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")
