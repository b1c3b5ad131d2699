"""The exploder: sink of interactive chains, one transaction per recipient, answered together.

The client's answer is the next hop's wherever one answer can be true for all recipients. Where it cannot (recipients differ,
or a submission server must not bother its user with a temporary failure), the recipients that are not delivered yet are
made durable in one commit, and only then the client hears 250 (exploder-output-retries.md §6; the class of an answer is
never made worse).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from koukan.chain.filter import Sink
from koukan.chain.transaction import Transaction
from koukan.errors import BodyAborted, StoreError
from koukan.model import BODY_ABORTED, Body, Mailbox, Response, Step, StepResult, Upstream

logger = logging.getLogger("koukan.router")

#: times that recipients are made durable while others of their message may have been delivered
KEEP_TRIES = 15
#: seconds between these tries
KEEP_PAUSE = 1.0

_DUPLICATE = ", possibly a duplicate to come"
_MAIL_OK = Response(250, "2.1.0 MAIL ok (exploder noop)")
_RCPT_KEPT = Response(250, "2.1.5 RCPT ok (store&forward)")
_DATA_KEPT = Response(250, "2.6.0 DATA ok (store&forward)")
_RCPT_TIMEOUT = Response(450, "4.4.2 the next hop did not answer RCPT in time")
_NOT_KEPT = Response(451, "4.3.0 the message could not be stored, try again later")
_RCPT_FIRST = Response(503, "5.5.1 RCPT first")


class Child(Protocol):
    """The transaction of one recipient."""

    upstream: Upstream


@dataclass(slots=True)
class Kept:
    """A recipient to be made durable: what is known of its attempt, None while that is still running."""

    child: Child
    rcpt: Response
    data: Response | None
    #: the attempt that goes on, to be adopted by the owner
    running: asyncio.Task[StepResult] | None


class Keeper(Protocol):
    """What the exploder needs from the router."""

    def open_child(self, tx: Transaction, mailbox: Mailbox) -> Child:
        """A transaction for one recipient of `tx`, in memory."""
        ...

    async def keep(self, tx: Transaction, body: Body, kept: Sequence[Kept]) -> None:
        """Make all of them durable in one commit: retried, or bounced where the failure is permanent. Raises StoreError."""
        ...

    def discard(self, child: Child) -> None:
        """End a child that is not kept, in the background."""
        ...


class ExploderSink(Sink):
    """The sink as configured: `msa` and seconds that RCPT and data wait."""

    interactive = True

    def __init__(self, keeper: Keeper, *, msa: bool, rcpt_timeout: float, data_timeout: float) -> None:
        self.keeper = keeper
        self.msa = msa
        self.rcpt_timeout = rcpt_timeout
        self.data_timeout = data_timeout

    def open(self, tx: Transaction) -> Upstream:
        return Exploder(self, tx)


@dataclass(slots=True)
class _Leg:
    """One recipient on its way."""

    child: Child
    #: what the next hop said, or what stands for its silence
    rcpt: Response
    data: Response | None = None
    task: asyncio.Task[StepResult] | None = None
    #: the next hop's silence ended the attempt
    ended: bool = False

    @property
    def live(self) -> bool:
        """The next hop took the recipient and waits for the data."""
        return self.rcpt.ok and not self.ended


class Exploder(Upstream):
    """One transaction with many recipients."""

    def __init__(self, sink: ExploderSink, tx: Transaction) -> None:
        self._sink = sink
        self._tx = tx
        self._mail: Mailbox | None = None
        self._legs: list[_Leg] = []
        self._settled = False

    async def step(self, step: Step) -> StepResult:
        result = StepResult()
        if step.mail_from is not None:
            self._mail = step.mail_from
            result.mail = _MAIL_OK
        if step.rcpt_to:
            result.rcpt = await self._recipients(step.rcpt_to)
        if step.body is not None:
            result.data = await self._data(step.body)
        return result

    async def heartbeat(self) -> None:
        # At once: a next hop that is slow with its answer must not be the death of the others.
        await asyncio.gather(*(leg.child.upstream.heartbeat() for leg in self._legs if leg.live and leg.task is None))

    async def cancel(self) -> None:
        """End every child that was not settled; what was kept belongs to the router by now."""
        if not self._settled:
            self._settled = True
            for leg in self._legs:
                self._end(leg)

    # --- recipients ----------------------------------------------------------------------------------------------------

    async def _recipients(self, mailboxes: Sequence[Mailbox]) -> list[Response]:
        legs = [_Leg(self._sink.keeper.open_child(self._tx, mailbox), _RCPT_TIMEOUT) for mailbox in mailboxes]
        self._legs += legs
        steps = [Step(self._mail, [mailbox]) for mailbox in mailboxes]
        await self._run(legs, steps, self._sink.rcpt_timeout)
        return [self._rcpt_answer(leg) for leg in legs]

    def _rcpt_answer(self, leg: _Leg) -> Response:
        if leg.task is None or not leg.task.done():
            leg.rcpt = _RCPT_TIMEOUT
            self._end(leg)
        else:
            result = leg.task.result()
            leg.task = None
            # A failure of MAIL upstream is the recipient's failure, in its own words.
            leg.rcpt = result.mail if result.mail is not None and result.mail.failed else result.rcpt[0]
        return _RCPT_KEPT if self._sink.msa and leg.rcpt.temporary else leg.rcpt

    # --- data ----------------------------------------------------------------------------------------------------------

    async def _data(self, body: Body) -> Response:
        accepted = [leg for leg in self._legs if leg.rcpt.ok or (self._sink.msa and leg.rcpt.temporary)]
        if not accepted:
            failures = [leg.rcpt for leg in self._legs]
            worst = next((r for r in failures if r.temporary), failures[0] if failures else None)
            return _RCPT_FIRST if worst is None else worst.precondition("all rcpts failed")
        try:
            await body.wait_complete()
        except BodyAborted:
            return BODY_ABORTED
        live = [leg for leg in accepted if leg.live]
        await self._run(live, [Step(body=body)] * len(live), self._sink.data_timeout)
        for leg in live:
            if leg.task is not None and leg.task.done():
                leg.data = leg.task.result().data or _NOT_KEPT
                leg.task = None
        return await self._settle(body, accepted)

    async def _settle(self, body: Body, accepted: Sequence[_Leg]) -> Response:
        answers = [self._shown(leg) for leg in accepted]
        first = answers[0]
        silent = not self._sink.msa and any(leg.data is None for leg in accepted)
        same = len({answer.code // 100 for answer in answers}) == 1 and not silent
        answer = first if same else _DATA_KEPT
        if same and len(self._legs) > 1:
            answer = Response(first.code, f"{first.message} (Exploder same response)")
        if answer.ok:
            open_legs = [leg for leg in accepted if leg.data is None or leg.data.failed]
            if open_legs and not await self._keep(body, open_legs):
                return _NOT_KEPT
        self._settled = True
        for leg in self._legs:
            self._end(leg)
        return answer

    def _shown(self, leg: _Leg) -> Response:
        """What the client would hear if this were the only recipient."""
        if self._sink.msa and leg.rcpt.temporary:
            return _DATA_KEPT
        # Whether a next hop that is silent has taken the message nobody knows. The attempt goes on and its answer counts: a
        # client that was told to come again would bring what may have been delivered.
        if leg.data is None or (self._sink.msa and leg.data.temporary):
            return _DATA_KEPT
        return leg.data

    async def _keep(self, body: Body, legs: Sequence[_Leg]) -> bool:
        kept = [Kept(leg.child, leg.rcpt, leg.data, leg.task) for leg in legs]
        # Some may have it by now: "try again" would bring it to them twice, so that the database gets its chance.
        committed = any(leg.task is not None or (leg.data is not None and leg.data.ok) for leg in self._legs)
        for left in reversed(range(KEEP_TRIES if committed else 1)):
            try:
                await self._sink.keeper.keep(self._tx, body, kept)
            except StoreError as error:
                if not left:
                    logger.warning("%s: cannot be kept%s: %s", self._tx.id, _DUPLICATE if committed else "", error)
                    return False
                await asyncio.sleep(KEEP_PAUSE)
            else:
                break
        for leg in legs:
            leg.ended, leg.task = leg.ended or leg.task is not None, None
        return True

    # --- children ------------------------------------------------------------------------------------------------------

    async def _run(self, legs: Sequence[_Leg], steps: Sequence[Step], timeout: float) -> None:
        """One step of every leg at once, for `timeout` seconds at most; legs that are late keep their task."""
        tasks = []
        for leg, step in zip(legs, steps, strict=True):
            leg.task = asyncio.ensure_future(leg.child.upstream.step(step))
            tasks.append(leg.task)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def _end(self, leg: _Leg) -> None:
        if leg.ended:
            return
        leg.ended = True
        if leg.task is not None:
            leg.task.cancel()
            leg.task = None
        self._sink.keeper.discard(leg.child)
