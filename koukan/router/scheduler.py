"""The scheduler: takes due mail from the queue and collects what is finished."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from functools import partial

from koukan import clock, metrics
from koukan.chain.transaction import Transaction
from koukan.errors import StoreError
from koukan.message.bodies import SpecBody
from koukan.model import Body, Response
from koukan.rest.blobs import BODY
from koukan.rest.resource import Resource
from koukan.router.dispatcher import Delivery, Dispatcher
from koukan.router.roles import Role
from koukan.router.work import Ledger, Work
from koukan.storage.store import AttemptEnd, Responses, Store, StoredTransaction

logger = logging.getLogger("koukan.router")

#: queued transactions attempted at a time by one process
QUEUE_CONCURRENCY = 50
#: seconds between looks into an empty queue; each sleep is varied by a half, so that replicas do not look in step
IDLE_POLL = 1.0
#: transactions deleted per database transaction of the collection
GC_BATCH = 500
#: seconds between looks at mail that this configuration cannot attempt
PUT_BACK_FOR = 3600.0


class Scheduler:
    """The queue's consumer in this process."""

    def __init__(
        self, store: Store, ledger: Ledger, dispatcher: Dispatcher, *, gc_interval: float | None, gc_ttl: float
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._gc_interval = gc_interval
        self._gc_ttl = gc_ttl
        #: queued attempts under way, by destination
        self._running: Counter[str] = Counter()

    async def run(self) -> None:
        """Claim due transactions and start them, for ever."""
        while True:
            free = 0 if self._dispatcher.draining else QUEUE_CONCURRENCY - self._running.total()
            claimed: list[StoredTransaction] = []
            self._dispatcher.queued.clear()
            try:
                claimed = await self._store.claim(free, self._running) if free > 0 else []
            except StoreError as error:
                logger.warning("cannot look into the queue: %s", error)
            for stored in claimed:
                self._start(stored)
            if not claimed or free <= 0:
                await self._pause()

    async def collect(self) -> None:
        """Delete finished transactions and publish the queue's state, for ever."""
        while True:
            await asyncio.sleep(self._gc_interval or 60)
            try:
                stats = await self._store.stats()
                metrics.QUEUE_DEPTH.set(stats.depth)
                metrics.QUEUE_AGE.set(stats.oldest_due_age)
                metrics.SESSIONS.set(stats.live_sessions)
                while self._gc_interval is not None and await self._store.collect(self._gc_ttl, GC_BATCH) == GC_BATCH:
                    continue
            except StoreError as error:
                logger.warning("cannot collect finished transactions: %s", error)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(IDLE_POLL * (0.5 + random.random())):
                await self._dispatcher.queued.wait()
        except TimeoutError:
            return

    def _start(self, stored: StoredTransaction) -> None:
        sender = stored.envelope.sender
        try:
            role = self._dispatcher.roles.find(sender.name, sender.tag)
            if role is None:
                self._put_back(stored, f"sender {sender} is not in the configuration")
            else:
                self._attempt(stored, role.delivering)
        except Exception:
            # One message that cannot be started must neither end the program nor stay leased by it.
            logger.exception("%s: internal error at the start of an attempt", stored.id)
            self._put_back(stored, "internal error at the start of the attempt")

    def _attempt(self, stored: StoredTransaction, role: Role) -> None:
        envelope = stored.envelope
        tx = Transaction(
            id=stored.id,
            sender=envelope.sender,
            remote_host=envelope.remote_host,
            local_host=envelope.local_host,
            smtp_meta=envelope.smtp_meta,
            earlier_attempts=stored.attempts - 1,
        )
        resource = Resource(
            id=stored.id,
            incremental=False,
            remote_host=envelope.remote_host,
            local_host=envelope.local_host,
            mail_from=envelope.mail_from,
            rcpt_to=list(envelope.rcpt_to),
            body=self._body(stored),
            blobs=dict(stored.blobs),
            has_spec=stored.spec is not None,
            retry=stored.retry,
            notification=stored.notification,
            attempt_count=stored.attempts,
            version=stored.version + 1,
        )
        work = Work(
            stored.id,
            envelope,
            role,
            tx,
            stored.retry,
            stored.notification,
            attempt=stored.attempts,
            tries=stored.tries,
            born=clock.now() - stored.age,
        )
        task = self._dispatcher.start(Delivery(resource, role, tx, work))
        self._running[stored.destination] += 1
        task.add_done_callback(partial(self._done, stored.destination))

    def _done(self, destination: str, task: asyncio.Task[None]) -> None:
        self._running[destination] -= 1
        if not self._running[destination]:
            del self._running[destination]
        self._dispatcher.queued.set()

    def _body(self, stored: StoredTransaction) -> Body:
        if stored.spec is None:
            return self._store.read_body(stored)
        blobs = {name: self._store.read_body(stored, name) for name in stored.blobs if name != BODY}
        return SpecBody(stored.spec, blobs)

    def _put_back(self, stored: StoredTransaction, reason: str) -> None:
        """What cannot be attempted stays in the queue with the reason, until somebody has put that right."""
        logger.error("%s: %s", stored.id, reason)
        responses = Responses(mail=Response(451, f"4.3.5 {reason}"))
        version = stored.version + 1
        end = AttemptEnd(stored.id, stored.attempts, responses, None, PUT_BACK_FOR, version=version, tried=False)
        self._dispatcher.background(self._written(end))

    async def _written(self, end: AttemptEnd) -> None:
        await self._ledger.write(end)
