"""The REST client: a transaction on a router, gateway or receiver, as an Upstream (rest-api.md §7).

Our own servers answer `Prefer: wait` (RFC 7240), so that an exchange carries its answer; any other server answers at once and
the client falls back to long polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from yarl import URL

from koukan import clock
from koukan.blob.progress import ProgressBody
from koukan.errors import BodyAborted, InvalidDocument, UpstreamError
from koukan.message.bodies import ParsedBody
from koukan.model import BODY_ABORTED, Body, HostPort, Response, SmtpMeta, Step, StepResult, Upstream
from koukan.model.documents import TransactionDocument, parse_transaction
from koukan.model.values import dump_host_port, dump_mailbox, dump_smtp_meta
from koukan.rest.http import Answer, HttpClients, exchange, joined
from koukan.rest.uploader import UploadRefused, put_ranged, put_whole

logger = logging.getLogger("koukan.rest")

#: seconds one exchange waits at most for its answer; then the client asks again
WAIT_LIMIT = 30
#: seconds between polls that brought nothing, for servers that answer them at once
POLL_SPACING = 1.0
#: polls in a row that may fail without an answer: connections break, but a server that is gone does not come back
POLL_FAILURES = 5
#: times an update is said again because the transaction has changed meanwhile
PATCH_TRIES = 5
#: seconds that telling a peer of a cancellation may take
CANCEL_TIMEOUT = 10

_NO_ANSWER = Response(450, "4.4.2 the next hop did not answer in time")


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
    #: seconds for the answer to the data, once all of it is sent; while it is sent, seconds without a byte
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
    #: where it was created, and where it is looked for again when the replica that it has moved to is gone
    home: str = ""
    etag: str = ""
    document: TransactionDocument = field(default_factory=TransactionDocument)


class RestUpstream(Upstream):
    """One transaction on a REST server."""

    def __init__(self, clients: HttpClients, target: Target, conversation: Conversation) -> None:
        self._http = clients.session(target.verify)
        self._target = target
        self._conversation = conversation
        self._known = _Known()
        self._mail_failure: Response | None = None
        self._rcpt_answers: list[Response] = []
        self._data_answered = False
        self._failed_polls = 0

    async def step(self, step: Step) -> StepResult:
        result = StepResult()
        if step.mail_from is not None or step.rcpt_to:
            await self._envelope(step, result)
        if step.body is not None:
            result.data = await self._data(step.body)
            # Our own verdict (too slow, broken off) is none of the server's: it must hear of the cancellation.
            self._data_answered = self._known.document.data_response is not None
        return result

    async def send_filter_output(self, output: Mapping[str, Any]) -> None:
        """Tell the server what filters have learned since the create request. What fails is only logged."""
        await self._notify("filter_output", self._patch({"filter_output": output}), self._target.rcpt_timeout)

    async def heartbeat(self) -> None:
        if self._open:
            await self._notify("heartbeat", self._patch(None), self._target.rcpt_timeout)

    async def cancel(self) -> None:
        if self._open:
            self._data_answered = True
            request = exchange(self._http, "POST", f"{self._known.location}/cancel", None, {})
            await self._notify("cancel", request, CANCEL_TIMEOUT)

    @property
    def _open(self) -> bool:
        return bool(self._known.location) and not self._data_answered

    async def _notify(self, what: str, request: Any, timeout: float) -> None:
        """An exchange whose failure changes nothing for the transaction."""
        try:
            async with asyncio.timeout(timeout):
                await request
        except (UpstreamError, TimeoutError) as error:
            logger.info("%s to %s: %s", what, self._known.location, error or "no answer")

    # --- envelope ------------------------------------------------------------------------------------------------------

    async def _envelope(self, step: Step, result: StepResult) -> None:
        failure = _NO_ANSWER
        first = len(self._rcpt_answers)
        wanted = first + len(step.rcpt_to)
        deadline = clock.now() + self._target.rcpt_timeout
        try:
            async with asyncio.timeout(self._target.rcpt_timeout):
                if self._known.location:
                    await self._patch(_update(step, first))
                else:
                    await self._create(step)
                while self._envelope_pending(step, wanted):
                    self._expect_more()
                    await self._poll(deadline)
        except UpstreamError as error:
            failure = Response(450, f"4.4.1 {error}")
        except TimeoutError:
            failure = _NO_ANSWER
        document = self._known.document
        if step.mail_from is not None:
            result.mail = document.mail_response or failure
            self._mail_failure = result.mail if result.mail.failed else None
        if self._mail_failure is not None:
            failure = self._mail_failure.precondition("MAIL")
        answers = list(document.rcpt_response[first:wanted])
        result.rcpt = answers + [failure] * (len(step.rcpt_to) - len(answers))
        self._rcpt_answers += result.rcpt

    def _envelope_pending(self, step: Step, wanted: int) -> bool:
        document = self._known.document
        if document.mail_response is not None and document.mail_response.failed:
            return False
        if step.mail_from is not None and document.mail_response is None:
            return True
        return len(document.rcpt_response) < wanted

    async def _create(self, step: Step) -> None:
        sender = {"name": self._target.sender, "tag": self._target.tag}
        document = _conversation(self._conversation)
        document["sender"] = {k: v for k, v in sender.items() if v is not None}
        document.update(_update(step, 0))
        answer = await self._request("POST", self._target.url, document)
        location = answer.headers.get("location")
        if answer.status != 201 or not location:
            raise UpstreamError(f"{self._target.url} answered {answer}")
        self._known.location = self._known.home = joined(self._target.url, location)
        self._learn(answer)

    async def _patch(self, document: Mapping[str, Any] | None) -> None:
        for _ in range(PATCH_TRIES):
            answer = await self._request("PATCH", self._known.location, document, {"if-match": self._known.etag})
            if answer.status == 200:
                self._learn(answer)
                return
            if answer.status != 412:
                raise UpstreamError(f"{self._known.location} answered {answer}")
            # Something else has changed meanwhile, an answer for example: look at it and say ours again.
            answer = await self._request("GET", self._known.location)
            if answer.status == 200:
                self._learn(answer)
        raise UpstreamError(f"{self._known.location} keeps changing")

    def _expect_more(self) -> None:
        """Raises UpstreamError when the server has given up: what it has not answered by then it never will."""
        document = self._known.document
        if document.final_attempt_reason is not None or document.cancelled:
            raise UpstreamError(f"{self._known.location} ended: {document.final_attempt_reason or 'cancelled'}")

    async def _poll(self, deadline: float) -> None:
        """One long poll; returns when something has changed or a while is over."""
        started = clock.now()
        timeout = max(1, min(WAIT_LIMIT, int(deadline - started)))
        headers = {"request-timeout": str(timeout)}
        if self._known.etag:
            headers["if-none-match"] = self._known.etag
        answer = await self._ask(headers)
        if answer is None:
            pass
        elif answer.status == 200:
            before = self._known.etag
            self._learn(answer)
            if self._known.etag != before:
                return
        elif answer.status != 304 and answer.status < 500:
            raise UpstreamError(f"{self._known.location} answered {answer}")
        # After a broken connection, an answer at once that nothing is new, or a server's own error: ask again, gently.
        await asyncio.sleep(max(0.0, POLL_SPACING - (clock.now() - started)))

    async def _ask(self, headers: Mapping[str, str]) -> Answer | None:
        """The answer to a poll; None when there was none, which may happen a few times."""
        try:
            answer = await self._request("GET", self._known.location, headers=headers)
        except UpstreamError:
            self._failed_polls += 1
            if self._failed_polls >= POLL_FAILURES:
                raise
            return None
        self._failed_polls = 0
        return answer

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        if not any(answer.ok for answer in self._rcpt_answers):
            failures = [a for a in self._rcpt_answers if a.temporary] or self._rcpt_answers
            return failures[0].precondition("all rcpts failed") if failures else Response(503, "5.5.1 RCPT first")
        timeout = self._target.data_timeout
        try:
            async with asyncio.timeout(timeout) as limit:
                await self._upload(body, partial(_postpone, limit, timeout))
                deadline = clock.now() + timeout
                _postpone(limit, timeout)
                while self._known.document.data_response is None:
                    self._expect_more()
                    await self._poll(deadline)
                return self._known.document.data_response
        except UploadRefused as refused:
            return refused.response
        except BodyAborted:
            return BODY_ABORTED
        except UpstreamError as error:
            return Response(450, f"4.4.2 {error}")
        except TimeoutError:
            return _NO_ANSWER

    async def _upload(self, body: Body, moved: Callable[[], None]) -> None:
        status = self._known.document.body
        uri = f"{self._known.location}/body"
        if status is not None and status.body is not None:
            uri = self._absolute(status.body.uri)
        size = self._target.chunk_size
        takes_whole = size is None
        if status is not None and status.builder_uri is not None:
            takes_whole = True  # receivers of parsed mail take no ranges
            if isinstance(body, ParsedBody):
                await self._upload_parsed(body, self._absolute(status.builder_uri), moved)
        body = ProgressBody(body, moved)
        if takes_whole or size is None or (body.length is not None and body.length <= size):
            answer = await put_whole(self._http, uri, body, self._wait_headers())
        else:
            answer = await put_ranged(self._http, uri, body, size, self._wait_headers())
        if "preference-applied" in answer.headers:
            self._learn(answer)

    async def _upload_parsed(self, body: ParsedBody, uri: str, moved: Callable[[], None]) -> None:
        answer = await self._request("POST", uri, body.spec, {"if-match": self._known.etag})
        if answer.status != 200:
            raise UpstreamError(f"{uri} answered the parsed message with {answer}")
        status = read_document(answer.body).body
        places = status.blobs if status is not None and status.blobs is not None else {}
        for name, blob in body.blobs.items():
            if name not in places:
                raise UpstreamError(f"{uri} names no place for blob {name!r}")
            if not places[name].finalized:
                await put_whole(self._http, self._absolute(places[name].uri), ProgressBody(blob, moved), {})

    def _absolute(self, uri: str) -> str:
        return joined(self._known.location, uri)

    # --- HTTP ----------------------------------------------------------------------------------------------------------

    async def _request(
        self,
        method: str,
        url: str,
        document: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = {**(headers or {})} if method == "GET" else {**self._wait_headers(), **(headers or {})}
        content = None
        if document is not None:
            content = orjson.dumps(document)
            sent["content-type"] = "application/json"
        try:
            answer = await exchange(self._http, method, url, content, sent)
        except UpstreamError:
            if url != self._known.location or url == self._known.home:
                raise
            # Whoever had it is gone, and where it came from knows who has it now.
            self._known.location = self._known.home
            answer = await exchange(self._http, method, self._known.home, content, sent)
        if answer.moved_to is not None and self._known.location:
            # The owner is another replica: talk to it from now on.
            owner, known = URL(answer.moved_to), URL(self._known.location)
            self._known.location = str(owner.join(URL(known.raw_path, encoded=True)))
        return answer

    def _wait_headers(self) -> dict[str, str]:
        """Ask the server to answer when the responses are there."""
        seconds = str(max(1, min(WAIT_LIMIT, int(self._target.rcpt_timeout) - 1)))
        return {"prefer": f"wait={seconds}", "request-timeout": seconds}

    def _learn(self, answer: Answer) -> None:
        self._known.document = read_document(answer.body)
        self._known.etag = answer.headers.get("etag", self._known.etag)


def _postpone(limit: asyncio.Timeout, seconds: float) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + seconds)


def _conversation(about: Conversation) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if about.remote_host is not None:
        document["remote_host"] = dump_host_port(about.remote_host)
    if about.local_host is not None:
        document["local_host"] = dump_host_port(about.local_host)
    if about.smtp_meta is not None:
        document["smtp_meta"] = dump_smtp_meta(about.smtp_meta)
    if about.filter_output:
        document["filter_output"] = about.filter_output
    return document


def _update(step: Step, first: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if step.mail_from is not None:
        document["mail_from"] = dump_mailbox(step.mail_from)
    if step.rcpt_to:
        document["rcpt_to"] = [dump_mailbox(mailbox) for mailbox in step.rcpt_to]
        if first:
            document["rcpt_to_list_offset"] = first
    return document


def read_document(body: bytes) -> TransactionDocument:
    """The transaction that a server answers with. Raises UpstreamError."""
    try:
        return parse_transaction(orjson.loads(body))
    except (orjson.JSONDecodeError, InvalidDocument) as error:
        raise UpstreamError(f"the answer is no transaction: {error}") from None
