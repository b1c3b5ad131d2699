"""The HTTP handlers of router and gateway (rest-api.md §1-6, §10): one table of routes over a transaction service.

Every answer that is not 2xx is made in `_refused`; JSON goes out as exactly `application/json`, as existing clients insist.
A handler is cancelled when its client goes away, so that nothing is done, or held open, for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
from aiohttp import web
from aiohttp.client_exceptions import ClientError

from koukan.errors import InvalidDocument, InvalidMessage, KoukanError, StoreError
from koukan.listener import HttpListener
from koukan.model import HostPort
from koukan.model.documents import parse_create, parse_update
from koukan.rest.blobs import BODY, BlobWriter
from koukan.rest.problems import BadRequest, Moved, PreconditionFailed, Refusal, StorageFull, Unavailable
from koukan.rest.resource import Resource
from koukan.rest.service import TransactionService
from koukan.rest.upload import content_range, header_number, parse_upload, receive

logger = logging.getLogger("koukan.rest")

#: seconds a long poll hangs at most, so that proxies and clients with timeouts of 60 s see an answer
LONG_POLL_LIMIT = 30
#: seconds a `Prefer: wait` is honoured at most
PREFER_WAIT_LIMIT = 60
#: bytes of a JSON document: a builder spec with generous inline texts; larger content belongs in blobs
DOCUMENT_LIMIT = 16 * 1024 * 1024
#: seconds an upload may stand still before it counts as broken off: an SMTP client behind it may be silent for minutes
#: (RFC 5321 §4.5.3.2.5), and gateway and transaction have shorter limits for clients that are gone
UPLOAD_TIMEOUT = 600
#: bytes of an upload handled at a time
UPLOAD_SLICE = 256 * 1024

_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestServer:
    """The REST listener of one process."""

    def __init__(self, service: TransactionService, *, slice_size: int = UPLOAD_SLICE) -> None:
        self._service = service
        self._slice_size = slice_size
        self._listener = HttpListener("rest_listener")
        self._background: set[asyncio.Future[bool]] = set()

    def application(self) -> web.Application:
        """The aiohttp application, for tests that need no socket."""
        app = web.Application(client_max_size=DOCUMENT_LIMIT, middlewares=[self._errors])
        app.router.add_post("/senders/{sender}/transactions", self._create)
        app.router.add_get("/transactions/{id}", self._get, allow_head=False)
        app.router.add_patch("/transactions/{id}", self._patch)
        app.router.add_put("/transactions/{id}/body", self._put_blob)
        app.router.add_put("/transactions/{id}/blob/{blob}", self._put_blob)
        app.router.add_post("/transactions/{id}/cancel", self._cancel)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def start(self, address: HostPort, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises StartupError when the address is taken."""
        await self._listener.start(self.application(), address, tls=tls, handler_cancellation=True)

    async def stop(self) -> None:
        """Stop listening and end what hangs in long polls."""
        await self._listener.stop()

    @property
    def address(self) -> HostPort:
        return self._listener.address

    # --- handlers ----------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.StreamResponse:
        document = parse_create(_json(await request.read()))
        creating = asyncio.ensure_future(self._service.create(request.match_info["sender"], document))
        try:
            resource = await asyncio.shield(creating)
            applied = await self._prefer_wait(request, resource)
        except asyncio.CancelledError:
            # The client is gone before it learned the transaction's name: nobody can ever finish it.
            creating.add_done_callback(self._abandon)
            raise
        location = f"{self._service.session_uri}/transactions/{resource.id}"
        return self._answer(resource, 201, {"location": location, **applied})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        resource = await self._service.find(request.match_info["id"])
        known = request.headers.get("if-none-match")
        if known is None:
            return self._answer(resource, 200)
        timeout = _seconds(request.headers.get("request-timeout"))
        if _names(known, resource):
            resource = await self._service.wait_change(resource, min(timeout, LONG_POLL_LIMIT))
        if _names(known, resource):
            # As it was said: existing clients compare it with what they know, letter by letter.
            return web.Response(status=304, headers={"etag": known})
        return self._answer(resource, 200)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        if body and not is_json:
            raise BadRequest("content-type must be application/json, or the body empty (heartbeat)")
        document = parse_update(_json(body) if is_json else {})
        if_match = request.headers.get("if-match")
        if if_match is None:
            raise BadRequest("if-match is required: the etag of the transaction as you know it")
        resource = await self._service.find(request.match_info["id"])
        if is_json and not resource.incremental:
            raise BadRequest("this transaction takes no updates: its chain does not end in an exploder")
        if not _names(if_match, resource):
            raise PreconditionFailed("the transaction has changed", {"etag": _etag(resource)})
        await self._service.update(resource, document)
        return self._answer(resource, 200, await self._prefer_wait(request, resource))

    async def _put_blob(self, request: web.Request) -> web.StreamResponse:
        upload = parse_upload(request.headers)
        resource, writer = await self._service.open_blob(request.match_info["id"], request.match_info.get("blob", BODY))
        try:
            await receive(writer, upload, self._slices(request, writer), self._service.max_message_size)
        except (TimeoutError, ClientError, ConnectionError, web.RequestPayloadError) as error:
            writer.interrupted()
            raise BadRequest(f"the upload broke off: {error or type(error).__name__}") from None
        except asyncio.CancelledError:
            writer.interrupted()
            raise
        known = content_range(writer)
        headers = {} if known is None else {"content-range": known}
        if resource.ended:
            resource = await self._as_it_is_now(resource)
        applied = await self._prefer_wait(request, resource)
        if applied:
            return self._answer(resource, 200, {**headers, **applied})
        return web.Response(body=b"{}", content_type="application/json", headers=headers)

    async def _as_it_is_now(self, resource: Resource) -> Resource:
        """What nobody works on was read before its upload; what has moved meanwhile is shown as it was."""
        try:
            return await self._service.find(resource.id)
        except Refusal:
            return resource

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        known = await self._service.cancel(request.match_info["id"])
        # Peers expect 200 for what is not there as well; people should see a mistyped id.
        return web.Response(text="" if known else "unknown tx: there is nothing to cancel\n")

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        reason = await self._service.not_ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    def _abandon(self, creating: asyncio.Task[Resource]) -> None:
        if not creating.cancelled() and creating.exception() is None:
            cancelling = asyncio.ensure_future(self._service.cancel(creating.result().id))
            self._background.add(cancelling)
            cancelling.add_done_callback(self._background.discard)

    # --- what they share -----------------------------------------------------------------------------------------------

    def _answer(self, resource: Resource, status: int, headers: dict[str, str] | None = None) -> web.Response:
        document = resource.document(self._service.session_uri, self._service.service_uri)
        return web.Response(
            status=status,
            body=orjson.dumps(document),
            content_type="application/json",
            headers={"etag": _etag(resource), **(headers or {})},
        )

    async def _prefer_wait(self, request: web.Request, resource: Resource) -> dict[str, str]:
        """Wait for the responses that were asked for (RFC 7240 §4.3). Answers the header that says so."""
        prefer = request.headers.get("prefer")
        found = _PREFER_WAIT.search(prefer) if prefer else None
        if found is None:
            return {}
        timeout = min(int(found[1]), PREFER_WAIT_LIMIT)
        await resource.wait(lambda: not resource.unanswered, timeout)
        return {"preference-applied": f"wait={timeout}"}

    async def _slices(self, request: web.Request, writer: BlobWriter) -> AsyncIterator[bytes]:
        """The request's bytes in pieces; a small body is one piece."""
        pending = bytearray()
        content = request.content
        while True:
            async with asyncio.timeout(UPLOAD_TIMEOUT):
                chunk = await content.readany()
            if not chunk:
                break
            writer.heard()
            if not pending and content.at_eof():
                yield chunk
                return
            pending += chunk
            if len(pending) >= self._slice_size:
                yield bytes(pending)
                pending.clear()
        if pending:
            yield bytes(pending)

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return _refused(request, refusal)
        except (InvalidDocument, InvalidMessage) as error:
            return _refused(request, BadRequest(f"invalid request: {error}"))
        except StoreError as error:
            logger.warning("%s %s: %s", request.method, request.path, error)
            return _refused(request, Unavailable("the database is not available"))
        except (ConnectionError, web.RequestPayloadError) as error:
            return _refused(request, BadRequest(f"the request broke off: {error or type(error).__name__}"))
        except OSError as error:
            logger.error("%s %s: cannot spool: %s", request.method, request.path, error)
            return _refused(request, StorageFull("no room for the message"))
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except (KoukanError, Exception):
            logger.exception("%s %s: internal error", request.method, request.path)
            return web.Response(status=500, text="internal error")


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    headers = dict(refusal.headers)
    if isinstance(refusal, Moved):
        headers["location"] = f"{refusal.base}{request.rel_url.raw_path}"
        return web.Response(status=refusal.status, headers=headers)
    return web.Response(status=refusal.status, text=str(refusal), headers=headers)


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"invalid JSON: {error}") from None


def _etag(resource: Resource) -> str:
    """The version as an entity-tag (RFC 9110 §8.8.3)."""
    return f'"{resource.version}"'


def _names(header: str, resource: Resource) -> bool:
    """Whether an if-match or if-none-match names this version; existing clients leave the quotes out."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return str(resource.version) in tags or tags == {"*"}


def _seconds(header: str | None) -> float:
    if not header:
        return LONG_POLL_LIMIT
    return header_number("request-timeout", header, "whole seconds")
