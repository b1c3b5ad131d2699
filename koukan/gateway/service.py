"""REST in, SMTP out: the gateway's transactions live in memory and end with the SMTP conversation they drive."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from koukan import clock, metrics
from koukan.blob.bodies import BytesBody
from koukan.blob.stream import StreamBody
from koukan.logs import event
from koukan.model import HostPort, Upstream
from koukan.model.documents import CreateRequest, InlineBody, UpdateRequest
from koukan.rest.blobs import BODY, BlobWriter, FinishedBlob, is_complete
from koukan.rest.problems import BadRequest, Conflict, NotFound, Unavailable
from koukan.rest.resource import Resource, check_recipients
from koukan.rest.service import TransactionService

logger = logging.getLogger("koukan.gateway")

#: transactions in memory at a time, each with an SMTP connection; above that 503, so that memory stays bounded
MAX_INFLIGHT = 2000
#: bytes of the largest message; routers have limits of their own, this one bounds a runaway upload
MAX_MESSAGE_SIZE = 1024 * 1024 * 1024
#: recipients of one transaction; RFC 5321 §4.5.3.1.8 asks for at least 100
MAX_RECIPIENTS = 1000

#: finished transactions that routers may still ask about, a kilobyte or two each; beyond it the oldest are forgotten early
MAX_FINISHED = 20_000

#: opens the SMTP side for a sender tag and the host to connect to; None when there is no such tag
OpenUpstream = Callable[[str, HostPort | None], Upstream | None]


@dataclass(eq=False, slots=True)
class _Transaction:
    resource: Resource
    tag: str
    task: asyncio.Task[None] | None = None
    started: float = field(default_factory=clock.now)
    ended_at: float | None = None


class GatewayService(TransactionService):
    """Transactions from routers to SMTP servers."""

    max_message_size = MAX_MESSAGE_SIZE

    def __init__(
        self,
        open_upstream: OpenUpstream,
        *,
        session_uri: str,
        rest_id_entropy: int = 16,
        gc_tx_ttl: float = 600,
        gc_done_ttl: float = 120,
        gc_interval: float = 5,
    ) -> None:
        self.session_uri = self.service_uri = session_uri.rstrip("/")
        self._open_upstream = open_upstream
        self._entropy = rest_id_entropy
        self._idle_ttl = gc_tx_ttl
        self._done_ttl = gc_done_ttl
        self._interval = gc_interval
        self._transactions: dict[str, _Transaction] = {}
        self._draining = False
        self._busy = 0

    @property
    def busy(self) -> int:
        """Transactions that are not over."""
        return self._busy

    def drain(self) -> None:
        """Take no new transactions from now on."""
        self._draining = True

    async def not_ready(self) -> str | None:
        return "draining" if self._draining else None

    async def create(self, sender: str, request: CreateRequest) -> Resource:
        if self._draining:
            raise Unavailable("this gateway is shutting down")
        if self._busy >= MAX_INFLIGHT:
            raise Unavailable("too many transactions in flight")
        check_recipients(len(request.rcpt_to), MAX_RECIPIENTS)
        upstream = self._open_upstream(request.tag or "", request.remote_host)
        if upstream is None:
            raise BadRequest(f"sender.tag: {request.tag!r} is no entry of smtp_output.hosts")
        resource = Resource(
            id=secrets.token_urlsafe(self._entropy),
            incremental=True,
            remote_host=request.remote_host,
            local_host=request.local_host,
            mail_from=request.mail_from,
            rcpt_to=list(request.rcpt_to),
            max_recipients=MAX_RECIPIENTS,
            patience=self._idle_ttl,
            handed_over=True,
        )
        if isinstance(request.body, InlineBody):
            resource.body = BytesBody(request.body.content)
        elif request.body is not None:
            raise BadRequest("body: a gateway takes whole messages only, inline or by PUT")
        resource.blobs[BODY] = StreamWriter(resource)
        transaction = _Transaction(resource, request.tag or "")
        self._transactions[resource.id] = transaction
        self._busy += 1
        transaction.task = asyncio.ensure_future(self._run(transaction, upstream))
        return resource

    async def find(self, tx_id: str) -> Resource:
        return self._transaction(tx_id).resource

    async def wait_change(self, resource: Resource, timeout: float) -> Resource:
        await resource.wait_version(resource.version, timeout)
        return resource

    async def update(self, resource: Resource, request: UpdateRequest) -> None:
        resource.accept(request)

    async def open_blob(self, tx_id: str, blob: str) -> tuple[Resource, BlobWriter]:
        resource = self._transaction(tx_id).resource
        if blob != BODY:
            raise NotFound("a gateway's transactions have a body and no blobs")
        writer = resource.blobs[BODY]
        if isinstance(writer, StreamWriter):
            resource.expect_client()
            return resource, writer
        if not is_complete(writer):
            raise Conflict("the transaction has ended")
        return resource, FinishedBlob(writer)

    async def cancel(self, tx_id: str) -> bool:
        transaction = self._transaction(tx_id)
        transaction.resource.cancel(transaction.task)
        return True

    # --- life ----------------------------------------------------------------------------------------------------------

    async def reap(self) -> None:
        """End transactions whose router has fallen silent and forget those that are over, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            now = clock.now()
            surplus = len(self._transactions) - self._busy - MAX_FINISHED
            for transaction in list(self._transactions.values()):
                resource = transaction.resource
                if transaction.ended_at is not None:
                    if surplus > 0 or now - transaction.ended_at > self._done_ttl:
                        del self._transactions[resource.id]
                        surplus -= 1
                elif resource.client_lost(now):
                    resource.give_up(f"nothing heard from the router for {self._idle_ttl:g} s")

    async def finish(self, timeout: float) -> None:
        """Let what is in flight come to its end, for `timeout` seconds at most."""
        tasks = self._tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    async def stop(self) -> None:
        """End every transaction at once."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [tx.task for tx in self._transactions.values() if tx.task is not None and not tx.task.done()]

    async def _run(self, transaction: _Transaction, upstream: Upstream) -> None:
        resource = transaction.resource
        try:
            await resource.drive(upstream)
        except asyncio.CancelledError:
            if not resource.cancelled:
                raise  # the process stops
        if isinstance(resource.body, StreamBody):
            resource.body.drop()  # an upload that goes on after its answer must not wait for a reader
        resource.ended = True
        resource.release()
        resource.changed()
        transaction.ended_at = clock.now()
        self._busy -= 1
        self._report(transaction)

    def _report(self, transaction: _Transaction) -> None:
        resource = transaction.resource
        seconds = clock.now() - transaction.started
        answers = [resource.mail_response, *resource.rcpt_response, resource.data_response]
        answer = next((a for a in reversed(answers) if a is not None), None)
        result = "ok" if resource.data_response is not None and resource.data_response.ok else "failed"
        metrics.TRANSACTIONS.labels("smtp_out").inc()
        metrics.ATTEMPTS.labels(result).inc()
        metrics.DURATION.labels("smtp_out").observe(seconds)
        event(
            logger,
            logging.INFO,
            "smtp out",
            id=resource.id,
            tag=transaction.tag,
            mail_from=resource.mail_from.address if resource.mail_from is not None else None,
            rcpt_to=",".join(m.address for m in resource.rcpt_to),
            next_hop=resource.remote_host,
            result="cancelled" if resource.cancelled else "silent" if resource.timed_out else result,
            answer=answer,
            seconds=round(seconds, 3),
        )

    def _transaction(self, tx_id: str) -> _Transaction:
        found = self._transactions.get(tx_id)
        if found is None:
            raise NotFound("unknown tx")
        return found


class StreamWriter(BlobWriter):
    """Hands an upload on to the SMTP conversation as it comes; what has been sent cannot be sent again."""

    overlap_allowed = False

    def __init__(self, resource: Resource) -> None:
        self.lock = asyncio.Lock()
        self._resource = resource
        self._stream: StreamBody | None = None
        self._size = resource.body.length or 0 if resource.body is not None else 0
        self._length = resource.body.length if resource.body is not None else None

    @property
    def size(self) -> int:
        return self._size

    @property
    def length(self) -> int | None:
        return self._length

    async def append(self, data: bytes, *, total: int | None, last: bool) -> None:
        resource = self._resource
        resource.expect_client()
        if resource.ended or resource.finished:
            raise Conflict("the transaction has ended")
        resource.heard()
        self._length = total
        if self._stream is None and last:
            resource.body = BytesBody(data)
        else:
            await self._write(data, last)
        self._size += len(data)
        if last:
            self._length = self._size
            resource.touch()

    def heard(self) -> None:
        self._resource.heard()

    def interrupted(self) -> None:
        """A router does not come back for the rest of a body: nothing partial may be finished."""
        if self._stream is not None:
            self._stream.abort("the upload broke off")

    async def _write(self, data: bytes, last: bool) -> None:
        if self._stream is None:
            self._stream = StreamBody()
            self._resource.body = self._stream
            self._resource.touch()
        if data:
            await self._stream.write(data)
        if last:
            self._stream.finish()
