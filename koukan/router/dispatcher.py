"""The dispatcher: runs the transactions that this process holds, and settles what becomes of them.

Interactive transactions (their chain ends in an exploder, a client waits) live in memory and leave a history row behind.
Durable ones (one-shot REST transactions, recipients kept by store and forward, queued mail) are leased rows whose every
attempt is written back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from koukan import clock, metrics
from koukan.chain.transaction import Transaction
from koukan.model import INTERNAL_ERROR, Body, Mailbox, Response, StepResult, Upstream
from koukan.rest.blobs import is_complete
from koukan.rest.resource import Resource
from koukan.router import outcome as outcomes
from koukan.router.exploder import Child, Kept
from koukan.router.notification import original_begun
from koukan.router.outcome import Outcome
from koukan.router.report import report
from koukan.router.roles import Role, Roles
from koukan.router.work import Ledger, Work
from koukan.storage.store import Envelope, NewTransaction, Responses, Store

logger = logging.getLogger("koukan.router")

#: seconds between looks at all transactions for timeouts and heartbeats: one coarse wheel instead of a timer each
TICK = 1.0
#: seconds that a stopping process takes to tell next hops that nothing more will come
GOODBYE_TIMEOUT = 2.0
#: how far a version leaps when an attempt is over: more than clients can change in the time that its end is written
_SETTLED_LEAP = 1 << 10


@dataclass(eq=False, slots=True)
class Delivery:
    """A transaction that a REST client (or nobody, for queued mail) looks at while it is attempted."""

    resource: Resource
    role: Role
    tx: Transaction
    #: None for interactive transactions, which have no row
    work: Work | None = None
    started: float = field(default_factory=clock.now)
    task: asyncio.Task[None] | None = None
    ended_at: float | None = None


@dataclass(eq=False, slots=True)
class ExploderChild(Child):
    """One recipient of an interactive transaction."""

    role: Role
    tx: Transaction
    upstream: Upstream
    mailbox: Mailbox
    born: float = field(default_factory=clock.now)


class Dispatcher:
    """The transactions of this process."""

    def __init__(self, store: Store, ledger: Ledger, cache_ttl: float) -> None:
        self._store = store
        self._ledger = ledger
        self._cache_ttl = cache_ttl
        self._roles: Roles | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self.deliveries: dict[str, Delivery] = {}
        #: set when there is new work in the queue
        self.queued = asyncio.Event()
        #: nothing new is begun
        self.draining = False
        self._busy = 0
        self._pulse = clock.Pulse()
        #: attempts that outlived their clients, which nobody can look at
        self._adopted: set[str] = set()
        #: cancelled between their claim and their start
        self._revoked: set[str] = set()

    def bind(self, roles: Roles) -> None:
        """Roles come after the dispatcher: their chains end in exploders that keep through it."""
        self._roles = roles

    @property
    def roles(self) -> Roles:
        assert self._roles is not None, "bind() comes first"
        return self._roles

    @property
    def busy(self) -> int:
        """Transactions that are not over."""
        return self._busy

    @property
    def working(self) -> bool:
        """Anything at all is under way, for a transaction that is over as well."""
        return bool(self._background)

    # --- running -------------------------------------------------------------------------------------------------------

    def start(self, delivery: Delivery) -> asyncio.Task[None]:
        """Run a transaction in the background."""
        self.deliveries[delivery.resource.id] = delivery
        delivery.tx.may_send = partial(self._may_send, delivery.resource, interactive=delivery.work is None)
        self._busy += 1
        if delivery.resource.id in self._revoked:
            self._revoked.discard(delivery.resource.id)
            self.cancel(delivery)
        delivery.task = self.background(self._run(delivery))
        metrics.INFLIGHT.set(len(self.deliveries))
        return delivery.task

    def _may_send(self, resource: Resource, *, interactive: bool) -> bool:
        """Whether a body may go out now. From then on nobody can call it back."""
        # In the time that this process stood still, a client that waits has gone, and a lease has gone to somebody else.
        client_gone = interactive and self._pulse.stood_still_since(resource.last_input)
        if resource.cancelled or self._store.fenced or client_gone:
            return False
        resource.handed_over = True
        return True

    def background(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is waited for when the process stops."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def revoke(self, tx_id: str) -> None:
        """The client has cancelled what we hold, and the store knows: no attempt begins, and one that is on its way stops.

        Not on its way yet: claimed a moment ago, and about to be started. Adopted attempts go on to the next hop's answer.
        """
        delivery = self.deliveries.get(tx_id)
        if delivery is not None:
            self.cancel(delivery)
        elif tx_id not in self._adopted:
            self._revoked.add(tx_id)

    def cancel(self, delivery: Delivery) -> None:
        """The client has cancelled: stop the attempt where it stands. Too late once its outcome is being written."""
        if delivery.resource.cancel(delivery.task):
            delivery.resource.final_reason = outcomes.CANCELLED

    async def finish(self, timeout: float) -> None:
        """Let what is in flight come to its end, for `timeout` seconds at most."""
        self.draining = True
        deadline = clock.now() + timeout
        while self._background and (left := deadline - clock.now()) > 0:
            await asyncio.wait(self._background, timeout=left)

    async def stop(self) -> None:
        """Stop every attempt at once. Durable work goes back to the queue with the session."""
        self._cancel_background()
        await self.finish(GOODBYE_TIMEOUT)
        self._cancel_background()
        if self._background:
            await asyncio.wait(self._background)

    def fence(self) -> None:
        """Our session is lost, and others may be at work on what we hold: every attempt ends now, and none begins."""
        self.draining = True
        self._cancel_background()

    def _cancel_background(self) -> None:
        for task in self._background:
            task.cancel()

    async def _run(self, delivery: Delivery) -> None:
        resource = delivery.resource
        if self._store.fenced:
            return  # it is somebody else's by now, and this process is about to end
        try:
            await resource.drive(delivery.role.chain.open(delivery.tx))
        except asyncio.CancelledError:
            if not resource.cancelled:
                raise  # the process stops
        if delivery.work is None:
            self._end_interactive(delivery)
        else:
            await self._end_durable(delivery, delivery.work)

    def _end_interactive(self, delivery: Delivery) -> None:
        resource, tx = delivery.resource, delivery.tx
        envelope = Envelope(
            tx.sender, resource.mail_from, tuple(resource.rcpt_to), tx.remote_host, tx.local_host, tx.smtp_meta
        )
        work = Work(resource.id, envelope, delivery.role, tx, retry=False, notification=False, born=delivery.started)
        responses = _responses(resource)
        outcome = self._ledger.conclude(work, responses, cancelled=resource.cancelled, timed_out=resource.timed_out)
        self._store.record(
            NewTransaction(
                id=resource.id,
                envelope=envelope,
                attempts=1,
                responses=responses,
                final_reason=outcome.final_reason,
                version=resource.version + 1,
            )
        )
        self._end(delivery, work, responses, outcome)

    async def _end_durable(self, delivery: Delivery, work: Work) -> None:
        resource = delivery.resource
        responses, timed_out = _responses(resource), resource.timed_out
        expected = self._ledger.conclude(work, responses, cancelled=resource.called_off, timed_out=timed_out)
        if expected.failure is not None:
            await original_begun(resource)
        work.body = resource.body
        # What is stored is newer than all that clients see while it is written, uploads included.
        version = resource.version + _SETTLED_LEAP
        written = await self._ledger.settle(
            work,
            responses,
            version,
            cancelled=resource.called_off,
            timed_out=timed_out,
        )
        if written is not None:
            self.queued.set()
            # A cancel that came too late has changed nothing, and one that came in between has: the store knows.
            resource.cancelled = written.final_reason == outcomes.CANCELLED
            resource.version = max(resource.version, version - 1)  # _end counts on
        outcome = written or Outcome(None)
        self._end(delivery, work, responses, outcome)
        if outcome.final_reason is None or not all(map(is_complete, resource.blobs.values())):
            # What happens to it from now on, a retry or the rest of an upload, is in the database only.
            self._forget(delivery)

    def _end(self, delivery: Delivery, work: Work, responses: Responses, outcome: Outcome) -> None:
        resource = delivery.resource
        resource.final_reason = outcome.final_reason
        resource.ended = True
        resource.changed()
        delivery.ended_at = clock.now()
        self._busy -= 1
        # It is looked at for a while, but nobody reads its bytes any more.
        resource.release()
        delivery.tx.notes.clear()
        kind = "interactive" if delivery.work is None else "durable"
        report(work, responses, outcome, kind, timed_out=resource.timed_out)

    def _forget(self, delivery: Delivery) -> None:
        # Under its id there may be the next attempt by now.
        if self.deliveries.get(delivery.resource.id) is delivery:
            del self.deliveries[delivery.resource.id]
        metrics.INFLIGHT.set(len(self.deliveries))

    # --- the wheel -----------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at every transaction once a second: silent clients, heartbeats upstream, what is done for good."""
        while True:
            await asyncio.sleep(TICK)
            self._pulse.beat()
            if self._store.fenced:
                continue  # asked, it has told us so by `fence`
            now = clock.now()
            for delivery in list(self.deliveries.values()):
                self._look_at(delivery, now)

    def _look_at(self, delivery: Delivery, now: float) -> None:
        resource = delivery.resource
        if delivery.ended_at is not None:
            if now - delivery.ended_at > self._cache_ttl:
                self._forget(delivery)
            return
        handler = delivery.role.chain.config.output_handler
        if resource.client_lost(now):
            resource.give_up(f"nothing heard from the client for {resource.patience:g} s")
        elif resource.waits_for_client and now - resource.last_output > handler.upstream_refresh:
            resource.heartbeat()

    # --- what the exploder needs -----------------------------------------------------------------------------------------

    def open_child(self, tx: Transaction, mailbox: Mailbox) -> ExploderChild:
        parent = self.roles.find(tx.sender.name, tx.sender.tag)
        role = parent.delivering if parent is not None else None
        if role is None:
            raise LookupError(f"{tx.sender} has no role")  # the transaction could not have been created
        number = int(tx.notes.get(Dispatcher, 0)) + 1
        tx.notes[Dispatcher] = number
        child = Transaction(
            id=f"{tx.id}-{number}",
            sender=role.sender.sender,
            remote_host=tx.remote_host,
            local_host=tx.local_host,
            smtp_meta=tx.smtp_meta,
            may_send=tx.may_send,
        )
        return ExploderChild(role, child, role.chain.open(child), mailbox)

    async def keep(self, tx: Transaction, body: Body, kept: Sequence[Kept]) -> None:
        parent = self.deliveries.get(tx.id)
        if parent is not None:
            parent.resource.handed_over = True  # what is about to be promised cannot be called back
        # Shielded: whoever asked may go away, but rows and the attempts that go on must stay in step.
        await asyncio.shield(self.background_keep(tx, body, kept))

    def background_keep(self, tx: Transaction, body: Body, kept: Sequence[Kept]) -> asyncio.Task[None]:
        return self.background(self._keep(tx, body, kept))

    async def _keep(self, tx: Transaction, body: Body, kept: Sequence[Kept]) -> None:
        rows: list[NewTransaction] = []
        running: list[tuple[Work, Kept]] = []
        ended: list[tuple[Work, Responses, Outcome]] = []
        for item in kept:
            child = item.child
            assert isinstance(child, ExploderChild)
            work = self._child_work(tx, child, body)
            if item.running is not None:
                running.append((work, item))
                rows.append(_row(work, body, Responses(rcpt=(item.rcpt,)), leased=True))
                continue
            responses = Responses(rcpt=(item.rcpt,), data=item.data)
            outcome = self._ledger.conclude(work, responses)
            ended.append((work, responses, outcome))
            rows.append(_row(work, body, responses, outcome=outcome))
            bounce = await self._ledger.bounce(work, outcome)
            if bounce is not None:
                rows.append(bounce)
        await self._store.keep(rows)
        metrics.KEPT.inc(len(kept))
        self.queued.set()
        for work, responses, outcome in ended:
            report(work, responses, outcome, "kept")
        for work, item in running:
            self._adopted.add(work.id)
            self.background(self._adopt(work, item))

    async def _adopt(self, work: Work, item: Kept) -> None:
        """An attempt that outlived its client's patience goes on; its outcome decides."""
        assert item.running is not None
        try:
            await asyncio.wait([item.running])
        finally:
            item.running.cancel()
            await item.child.upstream.cancel()
        responses = Responses(rcpt=(item.rcpt,), data=_data_response(item.running))
        outcome = await self._ledger.settle(work, responses, 2)
        self._adopted.discard(work.id)
        if outcome is not None:
            self.queued.set()
            report(work, responses, outcome, "kept")

    def discard(self, child: Child) -> None:
        self.background(child.upstream.cancel())

    def _child_work(self, tx: Transaction, child: ExploderChild, body: Body) -> Work:
        envelope = Envelope(
            child.role.sender.sender, tx.mail_from, (child.mailbox,), tx.remote_host, tx.local_host, tx.smtp_meta
        )
        return Work(
            child.tx.id, envelope, child.role, child.tx, retry=True, notification=True, born=child.born, body=body
        )


def _row(
    work: Work, body: Body, responses: Responses, *, leased: bool = False, outcome: Outcome | None = None
) -> NewTransaction:
    return NewTransaction(
        id=work.id,
        envelope=work.envelope,
        body=body,
        retry=work.retry,
        notification=work.notification,
        destination=work.envelope.rcpt_to[0].domain or "",
        leased=leased,
        due_in=0 if outcome is None else outcome.retry_in or 0,
        attempts=1,
        tries=0 if outcome is None else int(outcomes.was_tried(responses)),
        responses=responses,
        final_reason=None if outcome is None else outcome.final_reason,
    )


def _data_response(attempt: asyncio.Task[StepResult]) -> Response | None:
    """What an attempt that is over was answered; one that broke has failed temporarily."""
    if attempt.cancelled():
        return None
    error = attempt.exception()
    if error is not None:
        logger.error("internal error in an attempt that outlived its client", exc_info=error)
        return INTERNAL_ERROR
    return attempt.result().data


def _responses(resource: Resource) -> Responses:
    return Responses(resource.mail_response, tuple(resource.rcpt_response), resource.data_response)
