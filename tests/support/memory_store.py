"""A store in memory: what a router without a database would need, for tests of everything around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from koukan.errors import StaleAttempt, StoreError
from koukan.model import Mailbox
from koukan.storage.store import AttemptEnd, NewTransaction, Store, StoredTransaction


@dataclass
class MemoryStore(Store):
    """Keeps rows as they were given; `broken` makes every call fail as a database that is away."""

    session: int = 1
    broken: bool = False
    lost_session: bool = False
    #: rows by public id, with the newest outcome
    rows: dict[str, NewTransaction] = field(default_factory=dict)
    history: dict[str, NewTransaction] = field(default_factory=dict)

    @property
    def session_id(self) -> int:
        return self.session

    @property
    def fenced(self) -> bool:
        return self.lost_session

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the database is away")

    async def keep(self, transactions: Sequence[NewTransaction]) -> None:
        self._check()
        self.rows.update({row.id: row for row in transactions})

    def record(self, transaction: NewTransaction) -> None:
        self.history[transaction.id] = transaction

    async def load(self, tx_id: str) -> StoredTransaction | None:
        self._check()
        row = self.rows.get(tx_id) or self.history.get(tx_id)
        if row is None:
            return None
        return StoredTransaction(
            id=row.id,
            envelope=row.envelope,
            blobs={},
            blob_ids={},
            spec=row.spec,
            retry=row.retry,
            notification=row.notification,
            destination=row.destination,
            attempts=row.attempts,
            responses=row.responses,
            final_reason=row.final_reason,
            cancelled=False,
            version=row.version,
            age=0,
            lease_uri=None,
            leased_here=False,
            held=None,
        )

    async def finish_attempt(self, end: AttemptEnd) -> None:
        self._check()
        row = self.rows.get(end.id)
        if row is None or not row.leased or row.attempts != end.attempt:
            raise StaleAttempt(f"{end.id} is not ours")
        row.responses, row.final_reason, row.leased = end.responses, end.final_reason, False

    async def session_uri(self, session_id: int) -> str | None:
        return None

    async def ping(self) -> None:
        self._check()

    def open_recipients(self) -> list[Mailbox]:
        """Recipients of what is still to be delivered, or was bounced: whom somebody has taken responsibility for."""
        return [mailbox for row in self.rows.values() if row.final_reason is None for mailbox in row.envelope.rcpt_to]
