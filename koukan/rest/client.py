"""The REST client: a transaction on a router, gateway or receiver, as an Upstream (rest-api.md §7).

Our own servers answer `Prefer: wait` (RFC 7240), so that an exchange carries its answer; any other server answers at once and
the client falls back to long polls.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from yarl import URL

from koukan.errors import BodyAborted, InvalidDocument, UpstreamError
from koukan.message.bodies import ParsedBody
from koukan.model import Body, HostPort, Response, SmtpMeta, Step, StepResult, Upstream
from koukan.model.documents import (
    TransactionDocument,
    dump_mailbox,
    dump_smtp_meta,
    parse_transaction,
)

logger = logging.getLogger("koukan.rest")

#: seconds one exchange waits at most for its answer; then the client asks again
WAIT_LIMIT = 30
#: seconds to reach a server
CONNECT_TIMEOUT = 10
#: seconds between polls that brought nothing, for servers that answer them at once
POLL_SPACING = 1.0
#: redirects followed for one request: from any replica to the owner, and once more when it has just changed
REDIRECT_LIMIT = 3
#: seconds that telling a peer of a cancellation may take
CANCEL_TIMEOUT = 10
#: idle connections are kept for so many seconds; below the 75 s after which aiohttp's server closes them
KEEPALIVE = 60

_NO_ANSWER = Response(450, "4.4.2 the next hop did not answer in time")


class HttpClients:
    """The process's HTTP connections, pooled per way of verifying certificates."""

    def __init__(self) -> None:
        self._sessions: dict[bool | str, aiohttp.ClientSession] = {}

    def session(self, verify: bool | str = True) -> aiohttp.ClientSession:
        """The pool for `verify`: true, false, or a CA file."""
        found = self._sessions.get(verify)
        if found is None:
            tls: ssl.SSLContext | bool = (
                verify if isinstance(verify, bool) else ssl.create_default_context(cafile=verify)
            )
            connector = aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=KEEPALIVE)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
            found = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            self._sessions[verify] = found
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


@dataclass(frozen=True, slots=True)
class Target:
    """Where transactions go and how long they may take."""

    #: URL that creates transactions
    url: str
    sender: str | None = None
    tag: str | None = None
    verify: bool | str = True
    #: seconds for the answers to the envelope
    rcpt_timeout: float = 30
    #: seconds for the answer to the data, from the start of its upload
    data_timeout: float = 300
    #: bytes of a ranged chunk; None: one request for the whole body
    chunk_size: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is sent along about where the mail came from."""

    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    smtp_meta: SmtpMeta | None = None
    filter_output: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Known:
    """What the server has said so far."""

    location: str = ""
    etag: str = ""
    document: TransactionDocument = field(default_factory=TransactionDocument)


class RestUpstream(Upstream):
    """One transaction on a REST server."""

    def __init__(self, clients: HttpClients, target: Target, conversation: Conversation) -> None:
        self._http = clients.session(target.verify)
        self._target = target
        self._conversation = conversation
        self._known = _Known()
        self._rcpts_sent = 0
        self._mail_failure: Response | None = None
        self._rcpt_answers: list[Response] = []
        self._data_answered = False

    async def step(self, step: Step) -> StepResult:
        result = StepResult()
        if step.mail_from is not None or step.rcpt_to:
            await self._envelope(step, result)
        if step.body is not None:
            result.data = await self._data(step.body)
            self._data_answered = True
        return result

    async def send_filter_output(self, output: Mapping[str, Any]) -> None:
        """Tell the server what filters have learned since the create request. What fails is only logged."""
        try:
            async with asyncio.timeout(self._target.rcpt_timeout):
                await self._patch({"filter_output": output})
        except (UpstreamError, TimeoutError) as error:
            logger.warning("filter_output to %s: %s", self._known.location, error or "no answer")

    async def heartbeat(self) -> None:
        if not self._known.location or self._data_answered:
            return
        try:
            async with asyncio.timeout(self._target.rcpt_timeout):
                await self._patch(None)
        except (UpstreamError, TimeoutError) as error:
            logger.info("heartbeat to %s: %s", self._known.location, error or "no answer")

    async def cancel(self) -> None:
        if not self._known.location or self._data_answered:
            return
        self._data_answered = True
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._request("POST", f"{self._known.location}/cancel")
        except (UpstreamError, TimeoutError) as error:
            logger.info("cancel of %s: %s", self._known.location, error or "no answer")

    # --- envelope ------------------------------------------------------------------------------------------------------

    async def _envelope(self, step: Step, result: StepResult) -> None:
        deadline = time.monotonic() + self._target.rcpt_timeout
        failure = _NO_ANSWER
        first = len(self._rcpt_answers)
        self._rcpts_sent += len(step.rcpt_to)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._target.rcpt_timeout):
                if self._known.location:
                    await self._patch(_update(step, first))
                else:
                    await self._create(step)
                while self._envelope_pending(step):
                    await self._poll(deadline)
        except UpstreamError as error:
            failure = Response(450, f"4.4.1 {error}")
        except TimeoutError:
            failure = _NO_ANSWER
        document = self._known.document
        if step.mail_from is not None:
            result.mail = document.mail_response or failure
            self._mail_failure = result.mail if result.mail.failed else None
        for position in range(first, first + len(step.rcpt_to)):
            if position < len(document.rcpt_response):
                answer = document.rcpt_response[position]
            else:
                answer = failure if self._mail_failure is None else self._mail_failure.precondition("MAIL")
            result.rcpt.append(answer)
        self._rcpt_answers += result.rcpt

    def _envelope_pending(self, step: Step) -> bool:
        document = self._known.document
        if step.mail_from is not None and document.mail_response is None:
            return True
        if document.mail_response is not None and document.mail_response.failed:
            return False
        return len(document.rcpt_response) < self._rcpts_sent

    async def _create(self, step: Step) -> None:
        document: dict[str, Any] = {}
        about = self._conversation
        if about.remote_host is not None:
            document["remote_host"] = about.remote_host
        if about.local_host is not None:
            document["local_host"] = about.local_host
        if step.mail_from is not None:
            document["mail_from"] = dump_mailbox(step.mail_from)
        if step.rcpt_to:
            document["rcpt_to"] = _mailboxes(step)
        if about.smtp_meta is not None:
            document["smtp_meta"] = dump_smtp_meta(about.smtp_meta)
        sender = {"name": self._target.sender, "tag": self._target.tag}
        document["sender"] = {k: v for k, v in sender.items() if v is not None}
        if about.filter_output:
            document["filter_output"] = about.filter_output
        status, headers, body = await self._request("POST", self._target.url, document=document)
        location = headers.get("location")
        if status != 201 or not location:
            raise UpstreamError(f"{self._target.url} answered {status}{_excerpt(body)}")
        self._known.location = str(URL(self._target.url).join(URL(location)))
        self._learn(headers, body)

    async def _patch(self, document: Mapping[str, Any] | None) -> None:
        for _ in range(2):
            headers = {"if-match": self._known.etag}
            status, answer, body = await self._request(
                "PATCH", self._known.location, document=document, headers=headers
            )
            if status == 200:
                self._learn(answer, body)
                return
            if status != 412:
                raise UpstreamError(f"{self._known.location} answered {status}{_excerpt(body)}")
            # Something else has changed meanwhile, an answer for example: look at it and say ours again.
            status, answer, body = await self._request("GET", self._known.location)
            if status == 200:
                self._learn(answer, body)
        raise UpstreamError(f"{self._known.location} keeps changing")

    async def _poll(self, deadline: float) -> None:
        """One long poll; returns when something has changed or a while is over."""
        started = time.monotonic()
        timeout = max(1, min(WAIT_LIMIT, int(deadline - started)))
        headers = {"request-timeout": str(timeout)}
        if self._known.etag:
            headers["if-none-match"] = self._known.etag
        status, answer, body = await self._request("GET", self._known.location, headers=headers)
        if status == 200:
            before = self._known.etag
            self._learn(answer, body)
            if self._known.etag != before:
                return
        elif status != 304 and status < 500:
            raise UpstreamError(f"{self._known.location} answered {status}{_excerpt(body)}")
        # Servers that do not wait, and those that answer a poll with an error of their own, are asked again, gently.
        await asyncio.sleep(max(0.0, POLL_SPACING - (time.monotonic() - started)))

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        if not any(answer.ok for answer in self._rcpt_answers):
            failures = [a for a in self._rcpt_answers if a.temporary] or self._rcpt_answers
            return failures[0].precondition("all rcpts failed") if failures else Response(503, "5.5.1 RCPT first")
        deadline = time.monotonic() + self._target.data_timeout
        try:
            async with asyncio.timeout(self._target.data_timeout):
                refused = await self._upload(body)
                if refused is not None:
                    return refused
                while self._known.document.data_response is None:
                    await self._poll(deadline)
        except BodyAborted:
            return Response(451, "4.4.2 the message did not arrive completely")
        except UpstreamError as error:
            return Response(450, f"4.4.2 {error}")
        except TimeoutError:
            return _NO_ANSWER
        return self._known.document.data_response

    async def _upload(self, body: Body) -> Response | None:
        status = self._known.document.body
        if isinstance(body, ParsedBody) and status is not None and status.builder_uri is not None:
            await self._upload_parsed(body, status.builder_uri)
        uri = self._body_uri()
        whole = self._target.chunk_size is None or (status is not None and status.builder_uri is not None)
        size = self._target.chunk_size
        if whole or size is None or (body.length is not None and body.length <= size):
            return await self._put(uri, body)
        return await self._put_ranged(uri, body, size)

    def _body_uri(self) -> str:
        status = self._known.document.body
        if status is not None and status.body is not None:
            return str(URL(self._known.location).join(URL(status.body.uri)))
        return f"{self._known.location}/body"

    async def _upload_parsed(self, body: ParsedBody, uri: str) -> None:
        url = str(URL(self._known.location).join(URL(uri)))
        headers = {"if-match": self._known.etag}
        status, _, answer = await self._request("POST", url, document=body.spec, headers=headers)
        if status != 200:
            raise UpstreamError(f"{url} answered {status} to the parsed message{_excerpt(answer)}")
        blobs = _document(answer).body
        for name, blob in body.blobs.items():
            known = blobs.blobs.get(name) if blobs is not None and blobs.blobs is not None else None
            if known is None:
                raise UpstreamError(f"{url} names no place for blob {name!r}")
            if not known.finalized:
                refused = await self._put(str(URL(url).join(URL(known.uri))), blob, wait=False)
                if refused is not None:
                    raise UpstreamError(f"blob {name!r}: {refused.message}")

    async def _put(self, uri: str, body: Body, *, wait: bool = True) -> Response | None:
        """The whole body in one request."""
        content: bytes | AsyncIterator[bytes]
        headers = {"content-type": "message/rfc822"}
        if body.length is not None and body.length <= _IN_ONE_PIECE:
            content = await body.read()
        else:
            content = body.chunks()
            if body.length is not None:
                headers["content-length"] = str(body.length)
        status, answer, text = await self._request(
            "PUT", uri, content=content, headers=headers, wait=wait, replay=body.chunks if body.replayable else None
        )
        if status == 200 and "preference-applied" in answer:
            self._learn(answer, text)
        return _upload_refusal(uri, status, text)

    async def _put_ranged(self, uri: str, body: Body, size: int) -> Response | None:
        """The body in chunks of `size` bytes; the server says where to go on."""
        offset = 0
        pending = b""
        chunks = body.chunks()
        async for chunk in chunks:
            pending += chunk
            while len(pending) > size:
                refused, stored = await self._put_range(uri, pending[:size], offset, None)
                if refused is not None:
                    return refused
                pending, offset = pending[stored - offset :], stored
        refused, _ = await self._put_range(uri, pending, offset, offset + len(pending))
        return refused

    async def _put_range(self, uri: str, data: bytes, offset: int, total: int | None) -> tuple[Response | None, int]:
        last = offset + len(data) - 1
        headers = {"content-range": f"bytes {offset}-{last}/{'*' if total is None else total}"} if data else {}
        status, answer, text = await self._request("PUT", uri, content=data, headers=headers, wait=total is not None)
        if status == 200 and "preference-applied" in answer:
            self._learn(answer, text)
        stored = _stored(answer.get("content-range"), offset + len(data))
        if status in (200, 416) and offset < stored <= offset + len(data):
            return None, stored
        if status == 200 and not data:
            return None, offset
        return _upload_refusal(uri, status, text) or Response(450, f"4.4.2 {uri} lost track of the upload"), offset

    # --- HTTP ----------------------------------------------------------------------------------------------------------

    async def _request(
        self,
        method: str,
        url: str,
        *,
        document: Mapping[str, Any] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: bool = True,
        replay: Any = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One exchange, redirects followed. Raises UpstreamError when there is no answer."""
        sent = dict(headers or {})
        data: Any = content
        if document is not None:
            data = orjson.dumps(document)
            sent["content-type"] = "application/json"
        if wait and method != "GET":
            seconds = max(1, min(WAIT_LIMIT, int(self._target.rcpt_timeout) - 1))
            sent["prefer"] = f"wait={seconds}"
            sent["request-timeout"] = str(seconds)
        try:
            for _ in range(REDIRECT_LIMIT + 1):
                async with self._http.request(
                    method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
                ) as response:
                    if response.status not in (307, 308) or "location" not in response.headers:
                        return response.status, response.headers, await response.read()
                    url = str(URL(url).join(URL(response.headers["location"])))
                    self._moved(url)
                if data is not None and not isinstance(data, bytes):
                    if replay is None:
                        raise UpstreamError(f"redirected to {url} in the middle of an upload")
                    data = replay()
            raise UpstreamError(f"more than {REDIRECT_LIMIT} redirects")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = error.__cause__
            if isinstance(cause, BodyAborted):
                raise cause from None
            raise UpstreamError(f"{URL(url).origin()}: {error or type(error).__name__}") from None

    def _moved(self, url: str) -> None:
        """The owner is another replica: talk to it from now on."""
        if self._known.location:
            owner = URL(url)
            path = URL(self._known.location)
            self._known.location = str(path.with_scheme(owner.scheme).with_host(owner.host or "").with_port(owner.port))

    def _learn(self, headers: Mapping[str, str], body: bytes) -> None:
        self._known.document = _document(body)
        self._known.etag = headers.get("etag", self._known.etag)


#: bodies up to this size go out as one write; larger ones are streamed
_IN_ONE_PIECE = 64 * 1024


def _update(step: Step, first: int) -> Mapping[str, Any]:
    document: dict[str, Any] = {}
    if step.mail_from is not None:
        document["mail_from"] = dump_mailbox(step.mail_from)
    if step.rcpt_to:
        document["rcpt_to"] = _mailboxes(step)
        if first:
            document["rcpt_to_list_offset"] = first
    return document


def _mailboxes(step: Step) -> list[Mapping[str, object]]:
    return [dump_mailbox(mailbox) for mailbox in step.rcpt_to]


def _document(body: bytes) -> TransactionDocument:
    try:
        return parse_transaction(orjson.loads(body))
    except (orjson.JSONDecodeError, InvalidDocument) as error:
        raise UpstreamError(f"the answer is no transaction: {error}") from None


def _stored(content_range: str | None, default: int) -> int:
    if content_range is None:
        return default
    _, _, span = content_range.partition(" ")
    last = span.partition("/")[0].partition("-")[2]
    return int(last) + 1 if last.isdigit() else default


def _upload_refusal(uri: str, status: int, text: bytes) -> Response | None:
    if status == 200:
        return None
    if status == 413:
        return Response(552, "5.3.4 the message is too large for the next hop")
    if status == 507:
        return Response(452, "4.3.1 the next hop has no room for the message")
    return Response(450, f"4.4.2 {uri} answered {status} to the upload{_excerpt(text)}")


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:120].decode("utf-8", "replace").split())
    return f": {text}" if text else ""
