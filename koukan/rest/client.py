"""The REST client: a transaction on a router, gateway or receiver, as an Upstream (rest-api.md §7).

Our own servers answer `Prefer: wait` (RFC 7240), so that an exchange carries its answer; any other server answers at once and
the client falls back to long polls.

What the server has not answered itself it may do all the same. After an envelope that got no answer nothing of the transaction
goes on, since the next answer might be that of the one before; after a body that got none the client looks what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from koukan import clock
from koukan.blob.progress import ProgressBody
from koukan.errors import BodyAborted, UpstreamError
from koukan.message.blob_types import blob_types
from koukan.message.bodies import ParsedBody
from koukan.model import BODY_ABORTED, OUT_OF_STEP, Body, Response, Step, StepResult, Upstream
from koukan.model.values import dump_mailbox
from koukan.rest.http import HttpClients, shown
from koukan.rest.remote import Conversation, RemoteTransaction, Target, read_document
from koukan.rest.uploader import UploadRefused, put_ranged, put_whole

logger = logging.getLogger("koukan.rest")

#: seconds that a transaction which is cancelled while it is made gets to say its name
CREATE_GRACE = 2
#: times a body is sent whose upload got no answer, and of which the server has nothing
UPLOAD_TRIES = 3

#: characters of an error that are logged: a peer may send a page
LOGGED = 500

_NO_ANSWER = Response(450, "4.4.2 the next hop did not answer in time")
_WITHHELD = Response(451, "4.3.0 the message was held back before it was sent, try again later")
#: a server with retries of its own has the message: it delivers, or tells the sender itself
_KEPT = Response(250, "2.6.0 ok, kept by the next hop, which tries again by itself")


class RestUpstream(Upstream):
    """One transaction on a REST server. `may_send` is asked before the body goes out, and while it does.

    `name` is the transaction of ours that it belongs to, for the log and for whoever asks us about a failure.
    """

    def __init__(
        self,
        clients: HttpClients,
        target: Target,
        conversation: Conversation,
        may_send: Callable[[], bool] = lambda: True,
        name: str = "",
    ) -> None:
        self._remote = RemoteTransaction(clients, target)
        self._target = target
        self._conversation = conversation
        self._may_send = may_send
        self._name = name
        self._mail_failure: Response | None = None
        self._rcpt_answers: list[Response] = []
        self._data_answered = False
        #: a step has begun and did not end with the server's own answers
        self._out_of_step = False
        #: the server may have all of the body
        self._all_sent = False
        self._creating: asyncio.Task[None] | None = None
        self._cancelling: asyncio.Future[None] | None = None

    async def step(self, step: Step) -> StepResult:
        if self._out_of_step:
            failure = self._mail_failure
            return StepResult.all(step, OUT_OF_STEP if failure is None else failure.precondition("MAIL"))
        self._out_of_step = True
        result = StepResult()
        if (step.mail_from is not None or step.rcpt_to) and not await self._envelope(step, result):
            self._begin_to_cancel()
            result.data = None if step.body is None else OUT_OF_STEP
            return result
        if step.body is not None:
            result.data = await self._data(step.body)
        self._out_of_step = False
        return result

    async def send_filter_output(self, output: Mapping[str, Any]) -> None:
        """Tell the server what filters have learned since the create request. What fails is only logged."""
        await self._notify("filter_output", {"filter_output": output})

    async def heartbeat(self) -> None:
        if self._open:
            await self._notify("heartbeat", None)

    async def cancel(self) -> None:
        self._begin_to_cancel()
        if self._cancelling is not None:
            await self._cancelling

    def _begin_to_cancel(self) -> None:
        if self._creating is not None and not self._data_answered and self._cancelling is None:
            self._cancelling = asyncio.ensure_future(self._cancel(self._creating))

    async def _cancel(self, creating: asyncio.Task[None]) -> None:
        if not creating.done():
            # Its answer may be on its way; a server whose client hangs up before that ends the transaction by itself.
            await asyncio.wait([creating], timeout=CREATE_GRACE)
            creating.cancel()
        if self._remote.location:
            await self._remote.cancel()

    @property
    def _open(self) -> bool:
        return bool(self._remote.location) and not self._data_answered and self._cancelling is None

    async def _notify(self, what: str, document: Mapping[str, Any] | None) -> None:
        """An exchange whose failure changes nothing for the transaction."""
        try:
            async with asyncio.timeout(self._target.rcpt_timeout):
                await self._remote.patch(document)
        except (UpstreamError, TimeoutError) as error:
            logger.info("%s to %s: %s", what, self._remote, error or "no answer")

    # --- envelope ------------------------------------------------------------------------------------------------------

    async def _envelope(self, step: Step, result: StepResult) -> bool:
        """Ask for the answers to an envelope. Whether all of them are the server's own."""
        failure = _NO_ANSWER
        first = len(self._rcpt_answers)
        wanted = first + len(step.rcpt_to)
        deadline = clock.now() + self._target.rcpt_timeout
        try:
            async with asyncio.timeout(self._target.rcpt_timeout):
                if self._remote.location:
                    await self._remote.patch(_update(step, first), wanted)
                else:
                    # Apart: a step that is cancelled while the server makes the transaction must still learn its name.
                    create = self._remote.create(self._create_request(step), self._conversation.headers())
                    self._creating = asyncio.ensure_future(create)
                    self._creating.add_done_callback(_heard)
                    await asyncio.shield(self._creating)
                while self._envelope_pending(step, wanted):
                    self._expect_more()
                    await self._remote.poll(deadline)
        except UpstreamError as error:
            failure = self._trouble("4.4.1 the next hop cannot be asked now, try again later", error)
        except TimeoutError:
            failure = _NO_ANSWER
            if self._creating is not None:
                self._creating.cancel()
        answered = not self._envelope_pending(step, wanted)
        self._take_answers(step, result, failure, first)
        return answered

    def _take_answers(self, step: Step, result: StepResult, failure: Response, first: int) -> None:
        document = self._remote.document
        if step.mail_from is not None:
            mail = document.mail_response
            result.mail = failure if mail is None else self._meant(mail)
            self._mail_failure = result.mail if result.mail.failed else None
        if self._mail_failure is not None:
            failure = self._mail_failure.precondition("MAIL")
        elif document.mail_response is not None and document.mail_response.failed:
            failure = _KEPT  # its recipients will not be asked before the server tries again
        answers = [self._meant(answer) for answer in document.rcpt_response[first : first + len(step.rcpt_to)]]
        result.rcpt = answers + [failure] * (len(step.rcpt_to) - len(answers))
        self._rcpt_answers += result.rcpt

    def _meant(self, answer: Response) -> Response:
        """What an answer means for us: a server that tries again, or bounces, by itself has taken the message over."""
        document = self._remote.document
        if answer.ok or not document.retry or (answer.permanent and not document.notification):
            return answer
        return _KEPT

    def _envelope_pending(self, step: Step, wanted: int) -> bool:
        document = self._remote.document
        if document.mail_response is not None and document.mail_response.failed:
            return False
        if step.mail_from is not None and document.mail_response is None:
            return True
        return len(document.rcpt_response) < wanted

    def _create_request(self, step: Step) -> dict[str, Any]:
        sender = {"name": self._target.sender, "tag": self._target.tag}
        document = self._conversation.document()
        document["sender"] = {k: v for k, v in sender.items() if v is not None}
        document.update(_update(step, 0))
        return document

    def _trouble(self, text: str, error: UpstreamError) -> Response:
        """What others hear of an error: a plain sentence and the transaction. Hosts, URLs, a peer's page are the log's."""
        logger.warning("%s: %s", self._name or self._remote.id or "?", str(error)[:LOGGED])
        name = self._name or self._remote.id
        return Response(450, f"{text} ({name})" if name else text)

    def _expect_more(self) -> None:
        """Raises UpstreamError when the server has given up: what it has not answered by then it never will."""
        document = self._remote.document
        if document.final_attempt_reason is not None or document.cancelled:
            raise UpstreamError(f"{self._remote} ended: {document.final_attempt_reason or 'cancelled'}")

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        if not any(answer.ok for answer in self._rcpt_answers):
            failures = [a for a in self._rcpt_answers if a.temporary] or self._rcpt_answers
            return failures[0].precondition("all rcpts failed") if failures else Response(503, "5.5.1 RCPT first")
        failure = await self._send(body)
        if failure is not None and self._all_sent:
            # Our own verdict is none of the server's, which may have taken the message: it says what became of it.
            await self._settle()
        answer = self._data_answer
        self._data_answered = self._data_answered or answer is not None
        return answer or failure or _NO_ANSWER

    async def _send(self, body: Body) -> Response | None:
        """Send the body and wait for its answer. What stands in its place when there is none."""
        timeout = self._target.data_timeout
        try:
            async with asyncio.timeout(timeout) as limit:
                await self._upload(body, partial(self._moved, limit, timeout))
                _postpone(limit, timeout)
                await self._answered(timeout)
        except UploadRefused as refused:
            return refused.response
        except BodyAborted:
            return BODY_ABORTED if self._may_send() else _WITHHELD
        except UpstreamError as error:
            return self._trouble("4.4.2 the next hop did not take the message, try again later", error)
        except TimeoutError:
            return _NO_ANSWER
        return None

    @property
    def _data_answer(self) -> Response | None:
        document = self._remote.document
        if document.data_response is not None:
            return self._meant(document.data_response)
        if document.retry and self._all_sent and document.body is not None and document.body.complete:
            return _KEPT
        ended = document.final_attempt_reason is not None and not document.cancelled
        return _KEPT if ended and document.retry and document.notification else None

    async def _answered(self, timeout: float) -> None:
        """Wait for the answer to the data. Raises UpstreamError when there will be none."""
        deadline = clock.now() + timeout
        while self._data_answer is None:
            self._expect_more()
            await self._remote.poll(deadline)

    async def _settle(self) -> None:
        """Find out what became of a body that the server may have: once it is cancelled, it either is sent or never."""
        try:
            await self._remote.cancel()
            async with asyncio.timeout(self._target.settle_timeout):
                await self._remote.look()
                status = self._remote.document.body
                if status is not None and status.complete:
                    await self._answered(self._target.settle_timeout)
        except (UpstreamError, TimeoutError) as error:
            logger.info("%s: what became of the message is not known: %s", self._remote, error or "no answer")
        self._data_answered = True

    # --- upload --------------------------------------------------------------------------------------------------------

    def _moved(self, limit: asyncio.Timeout, seconds: float) -> None:
        _postpone(limit, seconds)
        self._check()

    def _check(self) -> None:
        if not self._may_send():
            raise BodyAborted("the message is held back")

    async def _upload(self, body: Body, moved: Callable[[], None]) -> None:
        """Send the body until the server has it. Raises UploadRefused, UpstreamError, BodyAborted."""
        for tried in range(1, UPLOAD_TRIES + 1):
            try:
                await self._upload_once(body, moved)
                return
            except UpstreamError:
                # Done or not, or still on its way: look before anything else.
                await self._remote.look()
                if self._arrived:
                    return
                if not body.replayable or tried == UPLOAD_TRIES:
                    raise

    @property
    def _arrived(self) -> bool:
        """The server has all of the body, or wants no more of it."""
        document = self._remote.document
        if document.data_response is not None or document.final_attempt_reason is not None or document.cancelled:
            return True
        return document.body is not None and document.body.complete

    async def _upload_once(self, body: Body, moved: Callable[[], None]) -> None:
        remote, status = self._remote, self._remote.document.body
        uri = f"{remote.location}/body"
        if status is not None and status.body is not None:
            uri = remote.absolute(status.body.uri)
        size = self._target.chunk_size
        if status is not None and (status.builder_uri is not None or status.blobs is not None):
            size = None  # receivers of parsed mail take no ranges
            if isinstance(body, ParsedBody):
                await self._upload_parsed(body, moved)
        self._check()
        try:
            async with asyncio.timeout(None) as silence:
                body = ProgressBody(body, moved, partial(self._sent, silence))
                if size is None or (body.length is not None and body.length <= size):
                    answer = await put_whole(remote.http, uri, body, remote.wait_headers())
                else:
                    answer = await put_ranged(remote.http, uri, body, size, remote.wait_headers())
        except TimeoutError:
            raise UpstreamError(f"{shown(uri)}: no answer to the upload") from None
        if "preference-applied" in answer.headers:
            remote.learn(answer)

    def _sent(self, silence: asyncio.Timeout) -> None:
        """All of the body is on its way: its answer has its own time."""
        self._all_sent = True
        seconds = self._remote.upload_answer_timeout
        if seconds is not None:
            _postpone(silence, seconds)

    async def _upload_parsed(self, body: ParsedBody, moved: Callable[[], None]) -> None:
        remote, status = self._remote, self._remote.document.body
        if status is not None and status.builder_uri is not None:
            uri = remote.absolute(status.builder_uri)
            answer = await remote.request("POST", uri, body.spec, {"if-match": remote.etag})
            if answer.status != 200:
                raise UpstreamError(f"{shown(uri)} answered the parsed message with {answer}")
            status = read_document(answer.body).body
        places = status.blobs if status is not None and status.blobs is not None else {}
        types = blob_types(body.spec)
        for name, blob in body.blobs.items():
            if name not in places:
                raise UpstreamError(f"{remote} names no place for blob {name!r}")
            if not places[name].finalized:
                kind = {"content-type": types.get(name, "application/octet-stream")}
                await put_whole(remote.http, remote.absolute(places[name].uri), ProgressBody(blob, moved), kind)


def _heard(creating: asyncio.Task[None]) -> None:
    """Take the error of a request that nobody waits for any more."""
    if not creating.cancelled():
        creating.exception()


def _postpone(limit: asyncio.Timeout, seconds: float) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + seconds)


def _update(step: Step, first: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if step.mail_from is not None:
        document["mail_from"] = dump_mailbox(step.mail_from)
    if step.rcpt_to:
        document["rcpt_to"] = [dump_mailbox(mailbox) for mailbox in step.rcpt_to]
        if first:
            document["rcpt_to_list_offset"] = first
    return document
