"""The kinds of write that share a commit, and the few statements that execute a whole batch of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from koukan.errors import StaleAttempt, StoreError
from koukan.storage import cancellation
from koukan.storage.body import INSERT_CHUNKS, Chunk
from koukan.storage.database import Connection, Row
from koukan.storage.rows import Record, dump_responses, dump_rows
from koukan.storage.statement import Statement
from koukan.storage.store import CANCELLED, AttemptEnd


class Write(ABC):
    """Something that waits for the next commit."""

    #: bytes of bodies in it, by which batches are bounded
    size: int = 0
    #: why the database does not take it although the commit succeeds; set by `write_all`
    refused: StoreError | None = None

    @abstractmethod
    async def is_written(self, connection: Connection) -> bool:
        """Whether it is in the database: asked after a commit of unknown outcome. False when writing it again does no harm."""


@dataclass(eq=False)
class Insert(Write):
    """New transactions with what belongs to them."""

    transactions: list[Record] = field(default_factory=list)
    queue: list[Record] = field(default_factory=list)
    attempts: list[Record] = field(default_factory=list)
    blobs: list[Record] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    refs: list[Record] = field(default_factory=list)
    #: blobs that have been staged for these transactions
    staged: list[Record] = field(default_factory=list)

    async def is_written(self, connection: Connection) -> bool:
        found = await connection.fetch(_FIND_TRANSACTIONS, dump_rows([{"id": t["id"]} for t in self.transactions]))
        return len(found) == len(self.transactions)


@dataclass(eq=False)
class Finish(Write):
    """The outcome of an attempt, guarded by session and attempt number."""

    tx_number: int
    session_id: int
    end: AttemptEnd
    bounce: Insert | None
    #: as written: a retry of what was cancelled meanwhile is none
    final_reason: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.final_reason = self.end.final_reason

    async def is_written(self, connection: Connection) -> bool:
        return False

    @property
    def row(self) -> Record:
        end = self.end
        return {
            "tx_id": self.tx_number,
            "attempt": end.attempt,
            "session_id": self.session_id,
            "retry_in": end.retry_in or 0,
            "responses": dump_responses(end.responses),
            "final_reason": self.final_reason,
            "version": end.version,
            "tried": int(end.tried),
        }


async def insert_all(connection: Connection, inserts: Sequence[Insert]) -> None:
    """Insert new transactions, referenced tables before those that refer to them."""
    await _bulk(connection, _INSERT_TRANSACTIONS, [row for i in inserts for row in i.transactions])
    await _bulk(connection, _INSERT_BLOBS, [row for i in inserts for row in i.blobs])
    chunks = [chunk for i in inserts for chunk in i.chunks]
    if chunks:
        await connection.write_rows(INSERT_CHUNKS, chunks)
    await _bulk(connection, _KEEP_STAGED, [row for i in inserts for row in i.staged])
    await _bulk(connection, _INSERT_REFS, [row for i in inserts for row in i.refs])
    await _bulk(connection, _INSERT_QUEUE, [row for i in inserts for row in i.queue])
    await _bulk(connection, _INSERT_ATTEMPTS, [row for i in inserts for row in i.attempts])


async def finish_all(connection: Connection, finishes: Sequence[Finish]) -> None:
    """Write outcomes, with their bounces; those of attempts that belong to somebody else by now are `refused`."""
    final = [finish.row for finish in finishes if finish.end.final_reason is not None]
    again = [finish.row for finish in finishes if finish.end.final_reason is None]
    left = await _bulk(connection, _LEAVE_QUEUE, final)
    given_back = await _bulk(connection, _GIVE_LEASE_BACK, again)
    cancelled = {row["tx_id"] for row in given_back if row["cancelled"]}
    await _bulk(connection, cancellation.LEAVE_QUEUE, [{"id": number} for number in cancelled])
    ours = {(row["tx_id"], row["attempt"]) for row in (*left, *given_back)}
    accepted: list[Finish] = []
    others: list[Finish] = []
    for finish in finishes:
        key = finish.tx_number, finish.end.attempt
        (accepted if key in ours else others).append(finish)
        if key in ours and finish.tx_number in cancelled:
            finish.final_reason = CANCELLED
        ours.discard(key)
    await _bulk(connection, _UPDATE_TRANSACTIONS, [finish.row for finish in accepted])
    await _bulk(connection, _INSERT_ATTEMPTS, [finish.row for finish in accepted])
    await _refuse(connection, others)
    await insert_all(connection, [finish.bounce for finish in accepted if finish.bounce is not None])


async def _refuse(connection: Connection, finishes: Sequence[Finish]) -> None:
    # A commit whose answer was lost is tried again: what this very attempt has written is no conflict.
    found = await _bulk(connection, _FIND_ATTEMPTS, [finish.row for finish in finishes])
    written = {(row["tx_id"], row["number"]) for row in found}
    for finish in finishes:
        if (finish.tx_number, finish.end.attempt) not in written:
            finish.refused = StaleAttempt(f"{finish.end.id}: attempt {finish.end.attempt} is not ours any more")


async def _bulk(connection: Connection, statement: Statement, rows: list[Record]) -> Sequence[Row]:
    return await connection.fetch(statement, dump_rows(rows)) if rows else ()


_INSERT_TRANSACTIONS = Statement(
    """
    INSERT INTO transactions (id, rest_id, envelope, spec, retry, notification, destination, attempts, responses,
        final_reason, version, created, updated)
    SELECT id, rest_id, envelope, spec, retry, notification, destination, attempts, responses,
        final_reason, version, {now}, {now}
    FROM {rows}
    """,
    rows="id bigint, rest_id text, envelope text, spec text, retry boolean, notification boolean, destination text, "
    "attempts integer, responses text, final_reason text, version integer",
)
_FIND_TRANSACTIONS = Statement("SELECT id FROM transactions WHERE id IN (SELECT id FROM {rows})", rows="id bigint")
_INSERT_BLOBS = Statement(
    "INSERT INTO blobs (id, size, length, staged, updated) SELECT id, size, length, false, {now} FROM {rows}",
    rows="id bigint, size bigint, length bigint",
)
_KEEP_STAGED = Statement(
    "UPDATE blobs SET staged = false WHERE id IN (SELECT id FROM {rows})",
    rows="id bigint",
)
_INSERT_REFS = Statement(
    "INSERT INTO blob_refs (tx_id, name, blob_id) SELECT tx_id, name, blob_id FROM {rows}",
    rows="tx_id bigint, name text, blob_id bigint",
)
_INSERT_QUEUE = Statement(
    """
    INSERT INTO queue (tx_id, due_at, destination, session_id, attempt, crashes, tries)
    SELECT tx_id, {now} + due_in, destination, session_id, attempt, 0, tries FROM {rows}
    """,
    rows="tx_id bigint, due_in float8, destination text, session_id integer, attempt integer, tries integer",
)
_INSERT_ATTEMPTS = Statement(
    """
    INSERT INTO attempts (tx_id, number, session_id, responses, ended)
    SELECT tx_id, attempt, session_id, responses, {now} FROM {rows}
    """,
    rows="tx_id bigint, attempt integer, session_id integer, responses text",
)
_FIND_ATTEMPTS = Statement(
    """
    SELECT tx_id, number FROM attempts
    WHERE (tx_id, number, session_id) IN (SELECT tx_id, attempt, session_id FROM {rows})
    """,
    rows="tx_id bigint, attempt integer, session_id integer",
)
_LEAVE_QUEUE = Statement(
    """
    DELETE FROM queue WHERE (tx_id, attempt, session_id) IN (SELECT tx_id, attempt, session_id FROM {rows})
    RETURNING tx_id, attempt
    """,
    rows="tx_id bigint, attempt integer, session_id integer",
)
# What waits for bytes (due_at is NULL) goes on waiting for them.
_GIVE_LEASE_BACK = Statement(
    """
    UPDATE queue SET session_id = NULL, crashes = 0, tries = tries + r.tried,
        due_at = CASE WHEN due_at IS NOT NULL THEN {now} + r.retry_in END, not_before = {now} + r.retry_in
    FROM {rows}
    WHERE queue.tx_id = r.tx_id AND queue.attempt = r.attempt AND queue.session_id = r.session_id
    RETURNING queue.tx_id, queue.attempt, queue.cancelled
    """,
    rows="tx_id bigint, attempt integer, session_id integer, retry_in float8, tried integer",
)
_UPDATE_TRANSACTIONS = Statement(
    """
    UPDATE transactions SET attempts = r.attempt, responses = r.responses, final_reason = r.final_reason,
        version = CASE WHEN r.version > transactions.version THEN r.version ELSE transactions.version + 1 END,
        updated = {now}
    FROM {rows}
    WHERE transactions.id = r.tx_id
    """,
    rows="tx_id bigint, attempt integer, responses text, final_reason text, version integer",
)
