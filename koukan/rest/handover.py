"""A body on its way to a REST server: the upload, the answer to it, and the truth when there is none (rest-api.md §6, §7).

Once the server may have all of the body, only its own word ends the matter: a connection that breaks says nothing, and a server
that is away for a while is asked again, for as long as the answer may take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from koukan import clock
from koukan.blob.progress import ProgressBody
from koukan.errors import BodyAborted, UpstreamError
from koukan.message.blob_types import blob_types
from koukan.message.bodies import ParsedBody
from koukan.model import BODY_ABORTED, Body, Response
from koukan.rest.http import shown
from koukan.rest.remote import (
    ANSWER_GRACE,
    POLL_SPACING,
    RemoteTransaction,
    Target,
    read_document,
    wait_headers,
    wait_within,
)
from koukan.rest.uploader import UploadRefused, put_ranged, put_whole

logger = logging.getLogger("koukan.rest")

#: times a body is sent whose upload got no answer, and of which the server has nothing
UPLOAD_TRIES = 3

NO_ANSWER = Response(450, "4.4.2 the next hop did not answer in time")
_WITHHELD = Response(451, "4.3.0 the message was held back before it was sent, try again later")
#: a server with retries of its own has the message: it delivers, or tells the sender itself
KEPT = Response(250, "2.6.0 ok, kept by the next hop, which tries again by itself")

#: what stands in an answer's place after an error
Trouble = Callable[[str, UpstreamError], Response]


class Handover:
    """The body of one transaction. `may_send` is asked before it goes out, and while it does."""

    def __init__(
        self, remote: RemoteTransaction, target: Target, may_send: Callable[[], bool], trouble: Trouble
    ) -> None:
        self._remote = remote
        self._target = target
        self._may_send = may_send
        self._trouble = trouble
        #: when the server may have had all of the body
        self._sent_at: float | None = None
        #: we have told the server that nothing more will come: what it promised before is void
        self.called_off = False

    def meant(self, answer: Response) -> Response:
        """What an answer means for us: a server that tries again, or bounces, by itself has taken the message over."""
        document = self._remote.document
        if answer.ok or self.called_off or document.cancelled:
            return answer
        return KEPT if document.notification or (document.retry and answer.temporary) else answer

    @property
    def answer(self) -> Response | None:
        """The answer to the data; None while there is none."""
        document = self._remote.document
        if document.data_response is not None:
            return self.meant(document.data_response)
        if self.called_off or document.cancelled:
            return None
        if document.retry and self._sent_at is not None and document.body is not None and document.body.complete:
            return KEPT
        return KEPT if document.final_attempt_reason is not None and document.notification else None

    async def send(self, body: Body) -> Response:
        """Send the body. Answers what became of it."""
        failure = await self._send(body)
        if failure is not None and self._sent_at is not None:
            # Our own verdict is none of the server's, which may have taken the message: it says what became of it.
            await self._settle()
        return self.answer or failure or NO_ANSWER

    async def _send(self, body: Body) -> Response | None:
        """What stands in the answer's place when there is none; None when there is."""
        try:
            async with asyncio.timeout(self._target.data_timeout) as limit:
                await self._upload(body, limit)
                await self._answered(self._target.data_timeout)
        except UploadRefused as refused:
            return refused.response
        except BodyAborted:
            return BODY_ABORTED if self._may_send() else _WITHHELD
        except UpstreamError as error:
            return self._trouble("4.4.2 the next hop did not take the message, try again later", error)
        except TimeoutError:
            return NO_ANSWER
        return None

    async def _answered(self, timeout: float) -> None:
        """Wait for the answer to the data. Raises UpstreamError when there will be none."""
        deadline = clock.now() + timeout
        while self.answer is None:
            self.expect_more()
            await self._remote.poll(deadline)

    def expect_more(self) -> None:
        """Raises UpstreamError when the server has given up: what it has not answered by then it never will."""
        document = self._remote.document
        if document.final_attempt_reason is not None or document.cancelled:
            raise UpstreamError(f"{self._remote} ended: {document.final_attempt_reason or 'cancelled'}")

    async def _settle(self) -> None:
        """Find out what became of a body that the server may have: once it is called off, it either is sent or never."""
        try:
            async with asyncio.timeout(self._target.settle_timeout):
                if self._remote.document.retry:
                    await self._remote.look()  # it is not ours to call off what the server has taken over
                if self.answer is None:
                    await self._call_off()
        except (UpstreamError, TimeoutError) as error:
            logger.info("%s: what became of the message is not known: %s", self._remote, error or "no answer")

    async def _call_off(self) -> None:
        self.called_off = True
        while True:
            if await self._remote.cancel():
                break
            await asyncio.sleep(POLL_SPACING)
        await self._remote.look()
        status = self._remote.document.body
        if status is not None and status.complete:
            await self._answered(self._target.settle_timeout)

    # --- upload --------------------------------------------------------------------------------------------------------

    async def _upload(self, body: Body, limit: asyncio.Timeout) -> None:
        """Send the body until the server has it. Raises UploadRefused, UpstreamError, BodyAborted."""

        def moved() -> None:
            if self._sent_at is None:
                limit.reschedule(asyncio.get_running_loop().time() + self._target.data_timeout)
            self._check()

        for tried in range(1, UPLOAD_TRIES + 1):
            try:
                await self._watched(body, moved)
                return
            except UpstreamError:
                # Done or not, or still on its way: look before anything else.
                await self._remote.look()
                if self._arrived:
                    return
                if not body.replayable or tried == UPLOAD_TRIES:
                    raise

    def _check(self) -> None:
        if not self._may_send():
            raise BodyAborted("the message is held back")

    @property
    def _arrived(self) -> bool:
        """The server has all of the body, or wants no more of it."""
        document = self._remote.document
        if document.data_response is not None or document.final_attempt_reason is not None or document.cancelled:
            return True
        return document.body is not None and document.body.complete

    async def _watched(self, body: Body, moved: Callable[[], None]) -> None:
        """One upload, to its answer, or until a look beside it shows that the server has the body.

        An answer that is late does not mean that it was lost: bytes wait in buffers as long as who reads them is slow.
        """
        upload = asyncio.ensure_future(self._upload_once(body, moved))
        patience = wait_within(self._target.data_timeout) + ANSWER_GRACE
        try:
            while not (await asyncio.wait([upload], timeout=patience))[0]:
                if self._sent_at is not None and self._remote.prompt and clock.now() - self._sent_at >= patience:
                    await self._remote.look()
                    if self._arrived:
                        return
            await upload
        finally:
            upload.cancel()
            del upload  # its error refers to this frame, and this frame to what we hold

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
        sent = ProgressBody(body, moved, self._sent)
        headers = wait_headers(self._target.data_timeout)
        if size is None or (sent.length is not None and sent.length <= size):
            answer = await put_whole(remote.http, uri, sent, headers)
        else:
            answer = await put_ranged(remote.http, uri, sent, size, headers)
        if "preference-applied" in answer.headers:
            remote.learn(answer)

    def _sent(self) -> None:
        if self._sent_at is None:
            self._sent_at = clock.now()
            self._remote.patient = True

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
