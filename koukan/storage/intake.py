"""New transactions on their way to rows: numbers, references, and where their bytes go."""

from __future__ import annotations

from collections.abc import Sequence

from koukan.model import Body
from koukan.storage.body import SMALL_BODY, Stager, StoredBody, chunk_rows
from koukan.storage.database import Database
from koukan.storage.rows import Numbers, dump_responses, transaction_row
from koukan.storage.store import BODY, BlobRef, NewTransaction
from koukan.storage.writes import Insert


class Intake:
    """Makes inserts of new transactions."""

    def __init__(self, database: Database, session_id: int) -> None:
        self._session_id = session_id
        self._number = Numbers(session_id)
        self._stager = Stager(database)

    async def insert(self, transactions: Sequence[NewTransaction]) -> Insert:
        """The rows of transactions. Large bodies are stored by now, and every body once. Raises StoreError, BodyAborted."""
        insert = Insert()
        stored: dict[int, BlobRef] = {}
        for transaction in transactions:
            number = self._number()
            insert.transactions.append(transaction_row(number, transaction))
            complete = await self._refer(insert, number, transaction, stored)
            if transaction.final_reason is None:
                insert.queue.append(self._queue_row(number, transaction, complete))
            if transaction.attempts and not transaction.leased:
                insert.attempts.append(self._attempt_row(number, transaction))
        insert.size = sum(len(data) for _, _, data in insert.chunks)
        return insert

    def history(self, transaction: NewTransaction) -> Insert:
        """The one row of a transaction that is over, and whose bytes and attempts nobody asks for."""
        return Insert(transactions=[transaction_row(self._number(), transaction)])

    async def _refer(
        self, insert: Insert, number: int, transaction: NewTransaction, stored: dict[int, BlobRef]
    ) -> bool:
        """Add a transaction's references and the blobs they need. Whether all of its bytes are there."""
        sources = dict(transaction.blobs)
        if transaction.spec is None:
            sources[BODY] = transaction.body
        complete = True
        for name, source in sources.items():
            if source is not None:
                ref = source if isinstance(source, BlobRef) else await self._store(insert, source, stored)
                blob = ref.blob_id
            elif transaction.final_reason is None:
                complete = False
                blob = self._add_empty(insert)
            else:
                continue  # not kept, and never to come
            insert.refs.append({"tx_id": number, "name": name, "blob_id": blob})
        return complete

    async def _store(self, insert: Insert, body: Body, stored: dict[int, BlobRef]) -> BlobRef:
        if isinstance(body, StoredBody):
            return body.ref
        if id(body) not in stored:
            await body.wait_complete()
            number = self._number()
            if body.length is not None and body.length <= SMALL_BODY:
                stored[id(body)] = self._add_small(insert, number, await body.read())
            else:
                stored[id(body)] = await self._stager.store(number, body)
                insert.staged.append({"id": number})
        return stored[id(body)]

    def _add_small(self, insert: Insert, number: int, data: bytes) -> BlobRef:
        insert.blobs.append({"id": number, "size": len(data), "length": len(data)})
        insert.chunks.extend(chunk_rows(number, 0, data))
        return BlobRef(number, len(data))

    def _add_empty(self, insert: Insert) -> int:
        number = self._number()
        insert.blobs.append({"id": number, "size": 0, "length": None})
        return number

    def _queue_row(self, number: int, transaction: NewTransaction, complete: bool) -> dict[str, object]:
        return {
            "tx_id": number,
            "due_in": transaction.due_in if complete else None,
            "destination": transaction.destination,
            "session_id": self._session_id if transaction.leased else None,
            "attempt": transaction.attempts,
            "tries": transaction.tries,
        }

    def _attempt_row(self, number: int, transaction: NewTransaction) -> dict[str, object]:
        return {
            "tx_id": number,
            "attempt": transaction.attempts,
            "session_id": self._session_id,
            "responses": dump_responses(transaction.responses),
        }
