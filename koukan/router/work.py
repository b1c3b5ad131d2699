"""A durable transaction under attempt, and how its outcome is written back."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field, replace
from functools import partial

from koukan import clock, metrics
from koukan.chain.transaction import Transaction
from koukan.errors import StaleAttempt, StoreError
from koukan.model import INTERNAL_ERROR, Body, Response
from koukan.router.notification import Notifier, wants_failures
from koukan.router.outcome import SUCCESS, Attempted, Outcome, conclude, was_tried
from koukan.router.roles import Role
from koukan.storage.database import Rejected
from koukan.storage.store import AttemptEnd, Envelope, NewTransaction, Responses, Store

logger = logging.getLogger("koukan.router")

#: seconds between tries to write an outcome while the database is away
_WRITE_RETRY = 1.0
#: in place of an answer that the database does not take
_DELIVERED = Response(250, "2.0.0 delivered; the next hop's words could not be kept")


@dataclass(eq=False, slots=True)
class Work:
    """One recipient's transaction, leased by this process, in its attempt number `attempt`."""

    id: str
    envelope: Envelope
    role: Role
    tx: Transaction
    retry: bool
    notification: bool
    attempt: int = 1
    #: how many of the attempts before were tries (outcome.was_tried)
    tries: int = 0
    #: time (clock) of the transaction's creation
    born: float = field(default_factory=clock.now)
    body: Body | None = None

    @property
    def age(self) -> float:
        return clock.now() - self.born


class Ledger:
    """Decides what follows from attempts and writes it."""

    def __init__(self, store: Store, notifier: Notifier, rng: random.Random | None = None) -> None:
        self._store = store
        self._notifier = notifier
        self._rng = rng or random.Random()

    def conclude(
        self, work: Work, responses: Responses, *, cancelled: bool = False, timed_out: bool = False
    ) -> Outcome:
        """What follows from an attempt that ended with these responses."""
        attempted = Attempted(
            work.envelope.mail_from,
            responses,
            work.tries + was_tried(responses),
            work.age,
            work.retry,
            work.notification and any(map(wants_failures, work.envelope.rcpt_to)),
            cancelled,
            timed_out,
            work.tx.internal_error,
        )
        return conclude(attempted, work.role.chain.config.output_handler.retry_params, self._rng)

    async def bounce(self, work: Work, outcome: Outcome) -> NewTransaction | None:
        """The notification that an outcome asks for."""
        if outcome.failure is None:
            return None
        make = partial(self._notifier.bounce, work.role, work.envelope, outcome.failure, tx=work.tx, age=work.age)
        try:
            return await make(body=work.body)
        except Exception:
            # Whatever is wrong with the original, its sender must hear that it failed, and the attempt must end.
            logger.exception("%s: internal error in a bounce, which goes without the original", work.id)
            return await make(body=None)

    async def settle(
        self, work: Work, responses: Responses, version: int, *, cancelled: bool = False, timed_out: bool = False
    ) -> Outcome | None:
        """Write what follows from an attempt, with its bounce. Answers what holds; None: another owner has it.

        Whatever goes wrong here, the lease is given back: nobody else can end a transaction that we hold.
        """
        try:
            if timed_out and not cancelled:
                # What is durable waits for its bytes as it does after a crash: another request may bring them.
                outcome = Outcome(None, retry_in=0)
            else:
                outcome = self.conclude(work, responses, cancelled=cancelled)
            bounce = await self.bounce(work, outcome)
            end = AttemptEnd(
                work.id,
                work.attempt,
                responses,
                outcome.final_reason,
                outcome.retry_in,
                bounce,
                version,
                was_tried(responses) and not timed_out,
            )
            written = await self.write(end)
        except Exception:
            logger.exception("%s: internal error at the end of attempt %d", work.id, work.attempt)
            end = _plain_end(work, responses, version)
            outcome = Outcome(end.final_reason, end.retry_in)
            written = await self._write_or_leave(end)
        if written is None:
            return None
        return outcome if written.final_reason == outcome.final_reason else Outcome(written.final_reason)

    async def _write_or_leave(self, end: AttemptEnd) -> AttemptEnd | None:
        """Write the plainest end there is; what the database does not take either stays leased until this process ends."""
        try:
            return await self.write(end)
        except Rejected:
            logger.exception("%s: the end of attempt %d cannot be written at all", end.id, end.attempt)
            return None

    async def write(self, end: AttemptEnd) -> AttemptEnd | None:
        """Write the end of an attempt, as long as it takes for the database to come back. Raises what is no such trouble.

        Answers it as it was written: a retry of what was cancelled meanwhile is the end. None: another owner has it.
        """
        while True:
            try:
                reason = await self._store.finish_attempt(end)
            except StaleAttempt:
                metrics.STALE.inc()
                logger.warning("%s: attempt %d belongs to another process now", end.id, end.attempt)
                return None
            except Rejected:
                raise  # it would be again
            except StoreError as error:
                logger.warning("%s: cannot write the outcome, trying again: %s", end.id, error)
                await asyncio.sleep(_WRITE_RETRY)
            else:
                if end.bounce is not None:
                    metrics.BOUNCES.inc()
                return replace(end, final_reason=reason)


def _plain_end(work: Work, responses: Responses, version: int) -> AttemptEnd:
    """The end of an attempt whose real one cannot be written, in words that certainly can.

    What was delivered is not delivered again. Everything else comes back later, its sender's bounce included.
    """
    if responses.data is not None and responses.data.ok:
        return AttemptEnd(work.id, work.attempt, Responses(data=_DELIVERED), SUCCESS, version=version)
    wait = work.role.chain.config.output_handler.retry_params.bug_retry
    return AttemptEnd(work.id, work.attempt, Responses(mail=INTERNAL_ERROR), None, wait, version=version, tried=False)
