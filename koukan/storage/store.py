"""The store seam: the router knows these whole-transaction operations, not SQL.

All times inside the database are its own clock's; what crosses this seam is relative (`due_in` seconds). Every write of an
attempt names its session and attempt number and is refused with StaleAttempt when someone else owns the transaction by now
(design.md §2, promise 4). Trouble with the database is StoreError, which callers answer with a temporary failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from koukan.model import Body, HostPort, Mailbox, Response, Sender, SmtpMeta

#: name of a transaction's message body among its blobs
BODY = "body"
#: final reason of a transaction that its client has cancelled
CANCELLED = "downstream cancelled"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a transaction is, apart from its bytes."""

    sender: Sender
    mail_from: Mailbox | None = None
    rcpt_to: tuple[Mailbox, ...] = ()
    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    smtp_meta: SmtpMeta | None = None


@dataclass(frozen=True, slots=True)
class Responses:
    """What the newest attempt was answered."""

    mail: Response | None = None
    rcpt: tuple[Response, ...] = ()
    data: Response | None = None


class BlobRef(NamedTuple):
    """A stored, complete blob that transactions share by reference."""

    blob_id: int
    length: int


@dataclass(slots=True)
class NewTransaction:
    """A transaction to be written. With `final_reason` it is history; else it is work, now or after `due_in`."""

    id: str
    envelope: Envelope
    #: message body: bytes to store (one Body object shared by several transactions of a `keep` is stored once), a stored
    #: blob to share, or None: to be uploaded, or (history) not kept
    body: Body | BlobRef | None = None
    #: builder spec instead of a body; its blobs are in `blobs`
    spec: Mapping[str, Any] | None = None
    #: the spec's blobs by id; None: to be uploaded
    blobs: Mapping[str, Body | BlobRef | None] = field(default_factory=dict)
    retry: bool = False
    notification: bool = False
    #: where it goes, for fairness between destinations and for the operator's eye: a domain or endpoint name
    destination: str = ""
    #: this session holds the lease and attempt number `attempts` is under way
    leased: bool = False
    #: seconds until it is due, for work that is not leased
    due_in: float = 0
    attempts: int = 0
    #: how many of them were answered by a next hop, or failed to reach one
    tries: int = 0
    responses: Responses = Responses()
    final_reason: str | None = None
    version: int = 1


class BlobState(NamedTuple):
    """How much of a blob is stored, and its final length once known; complete when they are equal."""

    size: int
    length: int | None

    @property
    def complete(self) -> bool:
        return self.length is not None and self.size == self.length


@dataclass(slots=True)
class StoredTransaction:
    """A transaction as the database holds it."""

    id: str
    envelope: Envelope
    #: every blob by id, the message body under BODY
    blobs: Mapping[str, BlobState]
    #: their row numbers, by the same ids
    blob_ids: Mapping[str, int]
    spec: Mapping[str, Any] | None
    retry: bool
    notification: bool
    destination: str
    attempts: int
    responses: Responses
    final_reason: str | None
    cancelled: bool
    version: int
    #: seconds since its creation
    age: float
    #: session_uri of the live session that holds the lease; None when nobody does
    lease_uri: str | None
    #: the lease is this process's own
    leased_here: bool
    #: why it is not attempted: quarantined after too many crashes, or held by an operator; None: it is not held
    held: str | None
    #: attempts so far that were answered by a next hop, or failed to reach one: what a retry policy counts
    tries: int = 0

    @property
    def input_done(self) -> bool:
        """Everything has been uploaded."""
        return all(blob.complete for blob in self.blobs.values())


@dataclass(slots=True)
class AttemptEnd:
    """The outcome of one attempt: retried after `retry_in` seconds, or final."""

    id: str
    #: the number that `claim` (or `keep` with a lease) gave it: fencing token of the write
    attempt: int
    responses: Responses
    #: why nothing further happens; None: retry
    final_reason: str | None
    retry_in: float | None = None
    #: the bounce, written in the same database transaction: exactly one
    bounce: NewTransaction | None = None
    version: int = 0
    #: a next hop answered, or could not be reached: it counts as a try
    tried: bool = True


class QueueStats(NamedTuple):
    """For metrics and readiness."""

    depth: int
    oldest_due_age: float
    live_sessions: int


class Store(Protocol):
    """The shared database."""

    @property
    def session_id(self) -> int:
        """This process's session; part of the ids of its transactions."""
        ...

    @property
    def fenced(self) -> bool:
        """Our session is lost: others take our work over, and our writes are refused."""
        ...

    async def keep(self, transactions: Sequence[NewTransaction]) -> None:
        """Make all of them durable in one commit, which is shared with whatever else is waiting. Returns after it."""
        ...

    def record(self, transaction: NewTransaction) -> None:
        """Write a history row behind, batched with others; lost at worst by a crash, never waited for."""
        ...

    async def load(self, tx_id: str) -> StoredTransaction | None:
        """The transaction of that public id."""
        ...

    async def claim(self, limit: int, running: Mapping[str, int] | None = None) -> list[StoredTransaction]:
        """Lease up to `limit` due transactions in order of due time and open their next attempt; `attempts` is its number.

        `running` are the caller's queued attempts under way by destination: none of them gets more than its share of what the
        others leave free (storage/fairness.py). Without it a destination may have all that nobody else waits for. Of what
        took its process down before, at most one transaction is under attempt here at a time.
        """
        ...

    async def finish_attempt(self, end: AttemptEnd) -> str | None:
        """Write the outcome and give the lease back. Raises StaleAttempt.

        Answers the final reason that was written: that of `end`, or CANCELLED in place of a retry.
        """
        ...

    async def cancel(self, tx_id: str) -> bool:
        """Cancel a transaction that nobody alive holds. False when it is leased, final or unknown."""
        ...

    async def cancel_leased(self, tx_id: str) -> bool:
        """Remember durably that a transaction which we hold is cancelled: it is not attempted again. False: not ours."""
        ...

    async def append(self, tx_id: str, blob: str, offset: int, data: bytes, length: int | None) -> BlobState:
        """Store bytes of a blob at `offset`; `length` is its final length when known. Answers what is stored now.

        An overlap with what is stored is skipped, a gap or a different final length changes nothing (rest-api.md §6). The
        last byte of the last blob makes an unleased transaction due.
        """
        ...

    async def find_blob(self, tx_id: str, blob: str, sender: str) -> BlobRef | None:
        """A complete blob of a transaction of the sender of that name, for reuse: nobody else's mail is read that way."""
        ...

    def read_blob(self, ref: BlobRef) -> Body:
        """The bytes of a stored blob, read in pieces."""
        ...

    def read_body(self, tx: StoredTransaction, blob: str = BODY) -> Body:
        """The bytes of a transaction's complete blob, read in pieces."""
        ...

    async def session_uri(self, session_id: int) -> str | None:
        """Where a live session is reached; None when it is gone."""
        ...

    async def collect(self, ttl: float, limit: int) -> int:
        """Delete up to `limit` finished or never completed transactions older than `ttl` seconds. Answers how many."""
        ...

    async def ping(self) -> None:
        """Ask the database for a sign of life. Raises StoreError."""
        ...

    async def stats(self) -> QueueStats:
        """Depth and age of the queue."""
        ...

    async def close(self) -> None:
        """Write what is waiting, end the session so that its leases are free at once, close connections."""
        ...
