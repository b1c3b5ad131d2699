"""A transaction as its REST client sees it: versioned, awaitable, and handed on in steps.

Router and gateway serve the same resource; what it is driven into (a chain, an SMTP connection) differs.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from koukan import clock
from koukan.model import INTERNAL_ERROR, Body, HostPort, Mailbox, Response, Step, StepResult, Upstream
from koukan.model.documents import BlobStatus, BodyStatus, TransactionDocument, UpdateRequest, dump_transaction
from koukan.model.values import dump_host_port
from koukan.rest.blobs import BODY, BlobSize, BlobView
from koukan.rest.problems import BadRequest, Conflict

logger = logging.getLogger("koukan.rest")

#: recipients beyond the limit that a transaction may name
MAX_SURPLUS = 1000

_TOO_MANY_RECIPIENTS = Response(452, "4.5.3 too many recipients")

Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class Resource:
    """One transaction. What has arrived is taken by a driver in steps, answers come back with `answer`."""

    id: str
    #: recipients arrive one by one; else there is exactly one, in the create request
    incremental: bool
    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    mail_from: Mailbox | None = None
    rcpt_to: list[Mailbox] = field(default_factory=list)
    #: recipients that go upstream; those beyond are answered 452 (RFC 5321 §4.5.3.1.10). None: no limit
    max_recipients: int | None = None
    mail_response: Response | None = None
    rcpt_response: list[Response] = field(default_factory=list)
    data_response: Response | None = None
    #: what goes upstream, once it has begun to arrive
    body: Body | None = None
    #: uploads by blob id; the message itself is BODY
    blobs: dict[str, BlobView] = field(default_factory=dict)
    #: the blobs belong to a builder spec
    has_spec: bool = False
    retry: bool = False
    notification: bool = False
    echo_sender: bool = True
    attempt_count: int = 0
    final_reason: str | None = None
    cancelled: bool = False
    timed_out: bool = False
    #: nothing further will be sent upstream
    ended: bool = False
    #: a step is under way
    busy: bool = False
    #: seconds that its client may be silent while nothing happens without it
    patience: float = math.inf
    #: its body is on its way to the next hop: once it is complete nobody can call it back
    handed_over: bool = False
    #: the client has cancelled when that was too late for this attempt: its answer decides, and no other follows
    cancel_asked: bool = False
    version: int = 1
    #: times: when the client was last heard, when upstream was last called
    last_input: float = field(default_factory=clock.now)
    last_output: float = field(default_factory=clock.now)
    _heartbeat_due: bool = False
    #: what the driver drives
    _upstream: Upstream | None = None
    _beating: asyncio.Task[None] | None = None
    _mail_taken: bool = False
    _rcpts_taken: int = 0
    _body_taken: bool = False
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)

    # --- the client's side ---------------------------------------------------------------------------------------------

    @property
    def unanswered(self) -> bool:
        """Something that has arrived completely still waits for its response."""
        if self.ended:
            return False
        return (
            (self.mail_from is not None and self.mail_response is None)
            or len(self.rcpt_response) < len(self.rcpt_to)
            or (self.body is not None and self.body.complete and self.data_response is None)
        )

    def accept(self, request: UpdateRequest) -> None:
        """Add what a PATCH brings; an empty one is a heartbeat. Raises a Refusal."""
        if request.body is not None:
            raise BadRequest("body: upload it with PUT")
        self.expect_client()
        if request.mail_from is not None or request.rcpt_to:
            if self.ended or self.finished:
                raise Conflict("the transaction has ended")
            if request.rcpt_to and request.rcpt_to_list_offset != len(self.rcpt_to):
                raise BadRequest(f"rcpt_to_list_offset: must be the number of recipients so far, {len(self.rcpt_to)}")
            if request.mail_from is not None and self.mail_from is not None:
                raise BadRequest("mail_from: has been given already")
            check_recipients(len(self.rcpt_to) + len(request.rcpt_to), self.max_recipients)
            self.mail_from = request.mail_from or self.mail_from
            self.rcpt_to.extend(request.rcpt_to)
            self._refuse_surplus()
        if not self.ended:
            self.touch()

    def expect_client(self) -> None:
        """Raises Conflict when the client comes back after it was given up, or would have been by now."""
        if not self.ended and self.client_lost(clock.now()):
            self.give_up(f"nothing heard from the client for {self.patience:g} s")
        if self.timed_out:
            raise Conflict(f"the transaction has ended: {self.patience:g} s without a sign of life")

    def client_lost(self, now: float) -> bool:
        """Only the client can go on, and has been silent for too long."""
        return self.waits_for_client and now - self.last_input > self.patience

    def heard(self) -> None:
        """Something of the client has arrived, be it a single byte."""
        self.last_input = clock.now()

    def touch(self) -> None:
        """The client has said something: new version."""
        self.heard()
        self.changed()

    def changed(self) -> None:
        """New version; wakes everybody who waits."""
        self.version += 1
        self.wake()

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, wanted: Callable[[], bool], timeout: float) -> bool:
        """Wait until `wanted()` holds, at most `timeout` seconds. Answers whether it does."""
        if wanted():
            return True
        try:
            async with asyncio.timeout(timeout):
                while not wanted():
                    await self._woken()
        except TimeoutError:
            return wanted()
        return True

    async def wait_version(self, known: int, timeout: float) -> bool:
        """Wait for another version than `known`, at most `timeout` seconds."""
        return await self.wait(lambda: self.version != known, timeout)

    def document(self, session_uri: str, service_uri: str) -> dict[str, Any]:
        """The response document (rest-api.md §2.1, column R)."""
        more: dict[str, object] = {}
        if self.remote_host is not None:
            more["remote_host"] = dump_host_port(self.remote_host)
        if self.local_host is not None:
            more["local_host"] = dump_host_port(self.local_host)
        if self.mail_from is not None:
            more["mail_from"] = {}
        if self.echo_sender:
            more["sender"] = {}
        view = TransactionDocument(
            mail_response=self.mail_response,
            rcpt_count=len(self.rcpt_to),
            rcpt_response=tuple(self.rcpt_response),
            data_response=self.data_response,
            attempt_count=self.attempt_count,
            body=self._body_status(session_uri, service_uri),
            final_attempt_reason=self.final_reason,
            cancelled=self.cancelled,
            retry=self.retry,
            notification=self.notification,
        )
        return dump_transaction(view, **more)

    def _body_status(self, session_uri: str, service_uri: str) -> BodyStatus | None:
        prefix = f"/transactions/{self.id}"
        statuses: dict[str, BlobStatus] = {}
        for name, blob in self.blobs.items():
            done = blob.length is not None and blob.size == blob.length
            untouched = self.incremental and self.body is None
            base = service_uri if done or untouched else session_uri
            path = f"{prefix}/body" if name == BODY else f"{prefix}/blob/{name}"
            statuses[name] = BlobStatus(f"{base.rstrip('/')}{path}", done)
        if self.has_spec:
            return BodyStatus(blobs=statuses)
        return BodyStatus(body=statuses[BODY]) if BODY in statuses else None

    # --- the driver's side ---------------------------------------------------------------------------------------------

    def take_step(self) -> Step | None:
        """What has arrived since the last step; None when that is nothing.

        A body that is not complete yet goes alone, so that it does not hold up the answers to the envelope.
        """
        mail = self.mail_from if not self._mail_taken else None
        rcpts: Sequence[Mailbox] = self.rcpt_to[self._rcpts_taken : self.max_recipients]
        body = self.body if not self._body_taken else None
        if body is not None and (mail is not None or rcpts) and not body.complete:
            body = None
        if mail is None and not rcpts and body is None:
            return None
        self._mail_taken = self._mail_taken or mail is not None
        self._rcpts_taken += len(rcpts)
        self._body_taken = self._body_taken or body is not None
        return Step(mail, rcpts, body)

    def answer(self, result: StepResult) -> None:
        """Publish the responses to a step."""
        if result.mail is not None:
            self.mail_response = result.mail
        self.rcpt_response.extend(result.rcpt)
        self._refuse_surplus()
        if result.data is not None:
            self.data_response = result.data
        self.changed()

    def _refuse_surplus(self) -> None:
        """Answer recipients beyond the limit, after those before them: answers go by position."""
        if self.max_recipients is not None and len(self.rcpt_response) >= self.max_recipients:
            self.rcpt_response += [_TOO_MANY_RECIPIENTS] * (len(self.rcpt_to) - len(self.rcpt_response))

    @property
    def finished(self) -> bool:
        """Nothing that may still arrive would change the outcome of this attempt."""
        if self.cancelled or self.timed_out or self.data_response is not None:
            return True
        if self.mail_response is not None and self.mail_response.failed:
            return True
        return not self.incremental and any(r.failed for r in self.rcpt_response)

    @property
    def called_off(self) -> bool:
        """The client wants no further attempt."""
        return self.cancelled or self.cancel_asked

    @property
    def waits_for_client(self) -> bool:
        """Nothing happens until the client sends more."""
        return not self.busy or (self.body is not None and self._body_taken and not self.body.complete)

    def give_up(self, reason: str) -> None:
        """The client is gone: end the attempt, and with it a body that will never be complete."""
        self.timed_out = True
        if self.body is not None:
            self.body.abort(reason)
        self.changed()

    def release(self) -> None:
        """The attempt is over: what its client may still ask for stays, its bytes go."""
        self.body = None
        self.blobs = {name: BlobSize(blob.size, blob.length) for name, blob in self.blobs.items()}

    def heartbeat(self) -> None:
        """Ask for a sign of life upstream: of the driver, or beside a step that waits for more of the body."""
        if not self.busy:
            self._heartbeat_due = True
            self.wake()
        elif self._upstream is not None and (self._beating is None or self._beating.done()):
            self._beating = asyncio.ensure_future(self._beat(self._upstream))

    async def _beat(self, upstream: Upstream) -> None:
        try:
            await upstream.heartbeat()
        except Exception:
            logger.exception("%s: internal error in a heartbeat", self.id)
        self.last_output = clock.now()

    def cancel(self, driver: asyncio.Task[None] | None) -> bool:
        """The client has cancelled: the attempt stops where it stands. False: too late, its answer decides."""
        if self.ended:
            return False
        in_flight = self.busy and self.handed_over and self._body_taken and self.body is not None and self.body.complete
        if self.finished or in_flight:
            self.cancel_asked = True
            self.wake()
            return False
        self.cancelled = True
        self.changed()
        # A driver that has not begun, or waits for more, sees it by itself; one that waits for an answer is interrupted.
        if self.busy and driver is not None:
            driver.cancel()
        return True

    async def drive(self, upstream: Upstream) -> None:
        """Feed upstream step by step until the attempt is finished. Always cancels what is left of it.

        Raises nothing but CancelledError: an attempt whose upstream is broken ends with a temporary failure. After a step that
        was not answered nothing goes upstream any more, since the two sides may no longer speak of the same.
        """
        broken = False
        self._upstream = upstream
        try:
            while not self.finished:
                step = self.take_step()
                if step is not None:
                    result = None if broken else await self._call(upstream.step(step))
                    if result is None and not broken:
                        broken = True
                        await self._call(upstream.cancel())
                    self.heard()
                    self.answer(StepResult.all(step, INTERNAL_ERROR) if result is None else result)
                elif self._heartbeat_due:
                    self._heartbeat_due = False
                    await self._call(upstream.heartbeat())
                else:
                    await self._woken()
        finally:
            self._upstream = None
            if not broken:
                await self._call(upstream.cancel())

    async def _call(self, called: Awaitable[Result]) -> Result | None:
        """What a call upstream answers; None when it raises, which would be a bug of its own."""
        self.busy = True
        try:
            return await called
        except Exception:
            logger.exception("%s: internal error in an upstream", self.id)
            return None
        finally:
            self.busy = False
            self.last_output = clock.now()

    async def _woken(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if not waiter.done():
                waiter.cancel()


def check_recipients(count: int, limit: int | None) -> None:
    """Recipients beyond the limit are answered one by one, up to a bound. Raises BadRequest above that."""
    if limit is not None and count > limit + MAX_SURPLUS:
        raise BadRequest(f"rcpt_to: more than {limit + MAX_SURPLUS} recipients, {limit} of which would be taken")
