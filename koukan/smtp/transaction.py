"""The mail transactions of one SMTP connection (RFC 5321 §3.3): commands' arguments in, steps upstream, replies out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from koukan import metrics
from koukan.blob.progress import ProgressBody
from koukan.model import (
    INTERNAL_ERROR,
    OUT_OF_STEP,
    Body,
    HostPort,
    Mailbox,
    Response,
    SmtpMeta,
    Step,
    StepResult,
    Upstream,
)
from koukan.smtp.commands import MAIL_PARAMS, RCPT_PARAMS, parse_path
from koukan.smtp.incoming import MessageTooLarge, receive_message

if TYPE_CHECKING:
    from koukan.smtp.server import SmtpListener

logger = logging.getLogger("koukan.smtp")

_MAIL_OK = Response(250, "2.1.0 ok")
_NESTED_MAIL = Response(503, "5.5.1 nested MAIL command")
_MAIL_FIRST = Response(503, "5.5.1 need MAIL command")
_RCPT_FIRST = Response(503, "5.5.1 need RCPT command")
_NO_ADDRESS = Response(501, "5.1.3 empty address")
_TOO_MANY_RECIPIENTS = Response(452, "4.5.3 too many recipients")
_TOO_BIG = Response(552, "5.3.4 message size exceeds fixed maximum message size")
_NO_ANSWER = Response(450, "4.4.2 no answer in time, try again later")
_DATA_NO_ANSWER = Response(451, "4.4.2 no answer in time, try again later")

#: seconds beyond its own limits that an upstream gets for its verdict: on the way there is what it has learned of the others
UPSTREAM_GRACE = 90


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of an SMTP client when its transaction begins."""

    remote_host: HostPort | None
    local_host: HostPort | None
    smtp_meta: SmtpMeta


OpenUpstream = Callable[[Conversation], Upstream]


class MailTransaction:
    """At most one transaction at a time, from MAIL to the answer to its data, or to `abandon`."""

    def __init__(self, listener: SmtpListener) -> None:
        self._listener = listener
        self._conversation: Conversation | None = None
        self._upstream: Upstream | None = None
        #: MAIL's verdict is held back until the first RCPT (delay_reject)
        self._held_mail: Mailbox | None = None
        self._recipients = 0
        self._accepted = 0
        #: why nothing that follows can succeed: of MAIL, or of recipients as long as none is accepted
        self._failure: Response | None = None
        #: a step has begun upstream and did not come to its answers
        self._out_of_step = False

    @property
    def open(self) -> bool:
        return self._conversation is not None

    async def mail(self, argument: str | None, conversation: Conversation) -> Response:
        """The reply to MAIL."""
        if self.open:
            return _NESTED_MAIL
        mailbox = parse_path(argument, "FROM:", MAIL_PARAMS, esmtp=conversation.smtp_meta.esmtp)
        if isinstance(mailbox, Response):
            return mailbox
        size = mailbox.param("SIZE")
        if size is not None and int(size.value or 0) > self._listener.config.limits.max_message_size:
            return _TOO_BIG
        self._conversation = conversation
        self._upstream = self._listener.open_upstream(conversation)
        if self._listener.config.delay_reject:
            self._held_mail = mailbox
            return _MAIL_OK
        answer = (await self._step(Step(mail_from=mailbox))).mail or INTERNAL_ERROR
        if answer.failed:
            self.abandon()
            self._failure = answer
        metrics.count_reply("mail", answer)
        return answer

    async def rcpt(self, argument: str | None) -> Response:
        """The reply to RCPT."""
        if self._conversation is None:
            return _MAIL_FIRST if self._failure is None else self._failure.precondition("MAIL")
        mailbox = parse_path(argument, "TO:", RCPT_PARAMS, esmtp=self._conversation.smtp_meta.esmtp)
        if isinstance(mailbox, Response):
            return mailbox
        if not mailbox.address:
            return _NO_ADDRESS
        if self._recipients >= self._listener.config.limits.max_recipients:
            return _TOO_MANY_RECIPIENTS
        self._recipients += 1
        held, self._held_mail = self._held_mail, None
        result = await self._step(Step(mail_from=held, rcpt_to=[mailbox]))
        answer = result.rcpt[0]
        if held is not None and result.mail is not None and result.mail.failed:
            # The verdict on MAIL was held back: it is the recipient's, and the next one asks again.
            answer = result.mail
            self._reopen(held)
        self._accepted += answer.ok
        if answer.failed and (self._failure is None or answer.temporary):
            self._failure = answer  # temporary as long as any of them may still become good
        metrics.count_reply("rcpt", answer)
        return answer

    def refuses_data(self) -> Response | None:
        """Why DATA cannot come now; None when it can."""
        if self._out_of_step:
            return OUT_OF_STEP
        if self._accepted:
            return None
        if self._failure is not None:
            return self._failure.precondition("RCPT" if self.open else "MAIL")
        return _RCPT_FIRST if self.open else _MAIL_FIRST

    async def receive(self, reader: asyncio.StreamReader) -> Response:
        """The message up to its final dot, and the reply to it. Raises TimeoutError, ConnectionResetError, BodyAborted."""
        limits = self._listener.config.limits
        try:
            answer = await receive_message(
                reader, self._send_body, size_limit=limits.max_message_size, timeout=limits.data_timeout
            )
        except MessageTooLarge:
            answer = _TOO_BIG
        if answer.failed:
            self.abandon()
        self._forget()
        metrics.count_reply("data", answer)
        return answer

    def abandon(self) -> None:
        """The transaction will not be finished: say so upstream, at once."""
        self._cancel_upstream()
        self._forget()

    async def _send_body(self, body: Body) -> Response:
        return (await self._step(Step(body=body))).data or INTERNAL_ERROR

    async def _step(self, step: Step) -> StepResult:
        """One step upstream; silence and trouble are temporary failures, after which nothing succeeds."""
        config = self._listener.config
        upstream = self._upstream
        assert upstream is not None  # since MAIL
        if self._out_of_step:
            return StepResult.all(step, OUT_OF_STEP)
        self._out_of_step = True
        seconds = UPSTREAM_GRACE + (config.rcpt_timeout if step.body is None else config.data_timeout)
        try:
            async with asyncio.timeout(seconds) as limit:
                if step.body is not None and not step.body.complete:
                    # A long message is no silence: the time for its answer begins when all of it is sent.
                    step.body = ProgressBody(step.body, partial(_postpone, limit, seconds))
                result = await upstream.step(step)
        except TimeoutError:
            failure = _NO_ANSWER if step.body is None else _DATA_NO_ANSWER
        except Exception:
            logger.exception("internal error in an SMTP transaction")
            failure = INTERNAL_ERROR
        else:
            self._out_of_step = False
            return result
        self._cancel_upstream()
        return StepResult.all(step, failure)

    def _reopen(self, held: Mailbox) -> None:
        """MAIL failed upstream: that transaction is over, another recipient begins a new one."""
        self._cancel_upstream()
        if self._conversation is not None:
            self._upstream = self._listener.open_upstream(self._conversation)
            self._held_mail = held
            self._out_of_step = False

    def _cancel_upstream(self) -> None:
        if self._upstream is not None:
            self._listener.background(self._upstream.cancel())

    def _forget(self) -> None:
        self._upstream = self._held_mail = self._conversation = self._failure = None
        self._recipients = self._accepted = 0
        self._out_of_step = False


def _postpone(limit: asyncio.Timeout, seconds: float) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + seconds)
