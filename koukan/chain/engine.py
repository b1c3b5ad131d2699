"""The chain engine: runs a step through the filters of a chain and hands what they let through to its sink.

Hooks run in the order of the chain, moment by moment: the reverse-path through all filters, then each recipient, then the
body. A filter that answers a recipient takes it out of what goes on; the engine keeps the positions. What cannot succeed
because something earlier failed is answered with that one's class.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from koukan.chain.filter import Filter, Sink
from koukan.chain.transaction import Recipient, Transaction
from koukan.config.router import ChainConfig
from koukan.errors import BodyAborted, InvalidMessage
from koukan.message.bodies import SpecBody
from koukan.model import BODY_ABORTED, INTERNAL_ERROR, OUT_OF_STEP, Body, Mailbox, Response, Step, StepResult, Upstream

logger = logging.getLogger("koukan.chain")

_MAIL_OK = Response(250, "2.1.0 ok")
_RCPT_OK = Response(250, "2.1.5 ok")
_MAIL_FIRST = Response(503, "5.5.1 MAIL first")
_ONE_BODY = Response(503, "5.5.1 the message was sent already")


class Chain:
    """An output chain, compiled: its filters are made once and called only at the moments they have hooks for."""

    def __init__(self, config: ChainConfig, filters: Sequence[Filter], sink: Sink) -> None:
        self.config = config
        self.sink = sink
        self.on_mail = _with_hook(filters, "on_mail")
        self.on_rcpt = _with_hook(filters, "on_rcpt")
        self.on_body = _with_hook(filters, "on_body")
        self.on_end = _with_hook(filters, "on_end")
        #: a filter looks at the whole body, so the sink cannot stream while the client still sends
        self.waits_for_body = any(f.needs_complete_body for f in self.on_body)

    @property
    def name(self) -> str:
        return self.config.name

    def open(self, tx: Transaction) -> ChainRun:
        """The chain as the upstream of one transaction."""
        return ChainRun(self, tx)


def _with_hook(filters: Sequence[Filter], hook: str) -> tuple[Filter, ...]:
    return tuple(f for f in filters if hook in f.hooks())


class ChainRun(Upstream):
    """One transaction on its way through a chain."""

    def __init__(self, chain: Chain, tx: Transaction) -> None:
        self._chain = chain
        self._tx = tx
        self._upstream = chain.sink.open(tx)
        #: accepted by the filters, not yet sent: a sink hears of a reverse-path with its first recipient
        self._held_mail: Mailbox | None = None
        self._mail_failure: Response | None = None
        #: the first recipient of each mailbox, or the newest after one that failed
        self._known: dict[tuple[object, ...], Recipient] = {}
        self._data_answered = False
        self._ended = False
        #: a call of the sink has begun and did not return: what it sent, and what was answered, nobody knows
        self._out_of_step = False

    async def step(self, step: Step) -> StepResult:
        begin = len(self._tx.recipients)
        if self._out_of_step:
            self._note_failure(step, OUT_OF_STEP, begin)
            return StepResult.all(step, OUT_OF_STEP)
        try:
            return await self._step(step)
        except BodyAborted:
            failure = BODY_ABORTED
        except InvalidMessage as error:
            failure = Response(550, f"5.6.0 {error}")
        except Exception:
            logger.exception("%s: internal error in chain %s", self._tx.id, self._chain.name)
            self._tx.internal_error = True
            failure = INTERNAL_ERROR
        self._note_failure(step, failure, begin)
        return StepResult.all(step, failure)

    async def heartbeat(self) -> None:
        await self._upstream.heartbeat()

    async def cancel(self) -> None:
        if self._ended:
            return
        self._ended = True
        await self._upstream.cancel()
        for link in self._chain.on_end:
            try:
                await link.on_end(self._tx)
            except Exception:
                logger.exception("%s: internal error at the end of chain %s", self._tx.id, self._chain.name)

    async def _step(self, step: Step) -> StepResult:
        result = StepResult()
        if step.mail_from is not None:
            result.mail = await self._ask_mail(step.mail_from)
        recipients = [await self._ask_rcpt(mailbox) for mailbox in step.rcpt_to]
        accepted = [r for r in recipients if r.response is None and r.same_as is None]
        if step.body is None:
            await self._send(result, accepted, None)
        else:
            await self._body_step(step.body, result, accepted)
        self._data_answered = step.body is not None
        for recipient in recipients:
            if recipient.same_as is not None:
                recipient.response = recipient.same_as.response
        result.rcpt = [r.response or _RCPT_OK for r in recipients]
        return result

    def _note_failure(self, step: Step, failure: Response, begin: int) -> None:
        """All of a step was answered so: what comes later does not go on without it, and fails with its class.

        `begin`: index of the step's first recipient.
        """
        recipients = self._tx.recipients
        if step.mail_from is not None:
            self._mail_failure = failure
        for mailbox in step.rcpt_to[len(recipients) - begin :]:
            recipients.append(Recipient(mailbox, len(recipients)))
        for recipient in recipients[begin:]:
            recipient.response = failure

    async def _body_step(self, body: Body, result: StepResult, accepted: Sequence[Recipient]) -> None:
        # With everything at hand, one exchange upstream carries it all; a body still to come must not hold the
        # envelope up.
        if not body.complete and self._chain.waits_for_body:
            await self._send(result, accepted, None)
            accepted = ()
        verdict = await self._ask_body(body) if self._any_accepted(accepted) else self._all_failed()
        if isinstance(verdict, Response):
            result.data = verdict
        else:
            await self._send(result, accepted, verdict)

    async def _ask_mail(self, mail_from: Mailbox) -> Response:
        self._tx.mail_from = mail_from
        for link in self._chain.on_mail:
            answer = await link.on_mail(self._tx, mail_from)
            if answer is not None and answer.failed:
                self._mail_failure = answer
                return answer
        self._held_mail = mail_from
        return _MAIL_OK

    async def _ask_rcpt(self, mailbox: Mailbox) -> Recipient:
        tx = self._tx
        recipient = Recipient(mailbox, len(tx.recipients))
        tx.recipients.append(recipient)
        if self._mail_failure is not None:
            recipient.response = self._mail_failure.precondition("MAIL")
        elif tx.mail_from is None:
            recipient.response = _MAIL_FIRST
        else:
            recipient.same_as = self._named_before(recipient)
            if recipient.same_as is None:
                recipient.response = await self._filter_rcpt(recipient)
        return recipient

    def _named_before(self, recipient: Recipient) -> Recipient | None:
        """The same mailbox earlier in the transaction. One that was refused may be asked for again."""
        local, at, domain = recipient.mailbox.address.rpartition("@")
        key = (local, at, domain.lower(), recipient.mailbox.params)
        earlier = self._known.get(key)
        if earlier is not None and (earlier.response is None or earlier.response.ok):
            return earlier
        self._known[key] = recipient
        return None

    async def _filter_rcpt(self, recipient: Recipient) -> Response | None:
        for link in self._chain.on_rcpt:
            answer = await link.on_rcpt(self._tx, recipient)
            if answer is not None:
                return answer
        return None

    async def _ask_body(self, body: Body) -> Body | Response:
        if self._data_answered:
            return _ONE_BODY
        for link in self._chain.on_body:
            if link.reads_message and isinstance(body, SpecBody):
                continue
            if link.needs_complete_body:
                await body.wait_complete()
            answer = await link.on_body(self._tx, body)
            if isinstance(answer, Response):
                return answer
            if answer is not None:
                body = answer
        return body

    def _any_accepted(self, new: Sequence[Recipient]) -> bool:
        return bool(new) or any(r.response is not None and r.response.ok for r in self._tx.recipients)

    def _all_failed(self) -> Response:
        """Nobody to deliver to: temporary while any recipient may still become good."""
        if self._mail_failure is not None:
            return self._mail_failure.precondition("MAIL")
        failures = [r.response for r in self._tx.recipients if r.response is not None]
        if not failures:
            return Response(503, "5.5.1 RCPT first")
        worst = next((f for f in failures if f.temporary), failures[0])
        return worst.precondition("all rcpts failed")

    async def _send(self, result: StepResult, accepted: Sequence[Recipient], body: Body | None) -> None:
        """Hand on what the filters let through and put the answers in their places."""
        mail = self._held_mail
        if not accepted and body is None and (mail is None or self._tx.recipients):
            return
        self._held_mail = None
        self._out_of_step = True
        answers = await self._upstream.step(Step(mail, [r.mailbox for r in accepted], body))
        self._out_of_step = False
        if answers.mail is not None:
            if answers.mail.failed:
                self._mail_failure = answers.mail
            if result.mail is not None:
                result.mail = answers.mail
        for recipient, answer in zip(accepted, answers.rcpt, strict=True):
            recipient.response = answer
        if body is not None:
            result.data = answers.data or INTERNAL_ERROR
