"""A durable transaction under attempt, and how its outcome is written back."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from functools import partial

from koukan import clock, metrics
from koukan.chain.transaction import Transaction
from koukan.errors import StaleAttempt, StoreError
from koukan.model import Body
from koukan.router.notification import Notifier
from koukan.router.outcome import Attempted, Outcome, conclude
from koukan.router.roles import Role
from koukan.storage.store import AttemptEnd, Envelope, NewTransaction, Responses, Store

logger = logging.getLogger("koukan.router")

#: seconds between tries to write an outcome while the database is away
_WRITE_RETRY = 1.0


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
            work.attempt,
            work.age,
            work.retry,
            work.notification,
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

    async def finish(self, work: Work, responses: Responses, outcome: Outcome, version: int) -> bool:
        """Write the outcome with its bounce. False: another owner has it."""
        bounce = await self.bounce(work, outcome)
        reason, retry_in = outcome.final_reason, outcome.retry_in
        return await self.write(AttemptEnd(work.id, work.attempt, responses, reason, retry_in, bounce, version))

    async def write(self, end: AttemptEnd) -> bool:
        """Write the end of an attempt, as long as it takes for the database to come back. False: another owner has it."""
        while True:
            try:
                await self._store.finish_attempt(end)
            except StaleAttempt:
                metrics.STALE.inc()
                logger.warning("%s: attempt %d belongs to another process now", end.id, end.attempt)
                return False
            except StoreError as error:
                logger.warning("%s: cannot write the outcome, trying again: %s", end.id, error)
                await asyncio.sleep(_WRITE_RETRY)
            else:
                if end.bounce is not None:
                    metrics.BOUNCES.inc()
                return True
