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
from typing import Any

from koukan import clock
from koukan.errors import UpstreamError
from koukan.model import OUT_OF_STEP, Body, Response, Step, StepResult, Upstream
from koukan.model.values import dump_mailbox
from koukan.rest.handover import KEPT, NO_ANSWER, Handover
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, RemoteTransaction, Target

logger = logging.getLogger("koukan.rest")

#: seconds that a transaction which is cancelled while it is made gets to say its name
CREATE_GRACE = 2

#: characters of an error that are logged: a peer may send a page
LOGGED = 500


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
        self._handover = Handover(self._remote, target, may_send, self._trouble)
        self._conversation = conversation
        self._name = name
        self._mail_failure: Response | None = None
        self._rcpt_answers: list[Response] = []
        self._data_answered = False
        #: a step has begun and did not end with the server's own answers
        self._out_of_step = False
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
        failure = NO_ANSWER
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
                    self._handover.expect_more()
                    await self._remote.poll(deadline)
        except UpstreamError as error:
            failure = self._trouble("4.4.1 the next hop cannot be asked now, try again later", error)
        except TimeoutError:
            failure = NO_ANSWER
            if self._creating is not None:
                self._creating.cancel()
        answered = not self._envelope_pending(step, wanted)
        self._take_answers(step, result, failure, first)
        return answered

    def _take_answers(self, step: Step, result: StepResult, failure: Response, first: int) -> None:
        document = self._remote.document
        if step.mail_from is not None:
            mail = document.mail_response
            result.mail = failure if mail is None else self._handover.meant(mail)
            self._mail_failure = result.mail if result.mail.failed else None
        if self._mail_failure is not None:
            failure = self._mail_failure.precondition("MAIL")
        elif document.mail_response is not None and document.mail_response.failed:
            failure = KEPT  # its recipients will not be asked before the server tries again
        answers = [self._handover.meant(answer) for answer in document.rcpt_response[first : first + len(step.rcpt_to)]]
        result.rcpt = answers + [failure] * (len(step.rcpt_to) - len(answers))
        self._rcpt_answers += result.rcpt

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

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        if not any(answer.ok for answer in self._rcpt_answers):
            failures = [a for a in self._rcpt_answers if a.temporary] or self._rcpt_answers
            return failures[0].precondition("all rcpts failed") if failures else Response(503, "5.5.1 RCPT first")
        answer = await self._handover.send(body)
        self._data_answered = self._handover.called_off or self._handover.answer is not None
        return answer


def _heard(creating: asyncio.Task[None]) -> None:
    """Take the error of a request that nobody waits for any more."""
    if not creating.cancelled():
        creating.exception()


def _update(step: Step, first: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if step.mail_from is not None:
        document["mail_from"] = dump_mailbox(step.mail_from)
    if step.rcpt_to:
        document["rcpt_to"] = [dump_mailbox(mailbox) for mailbox in step.rcpt_to]
        if first:
            document["rcpt_to_list_offset"] = first
    return document
