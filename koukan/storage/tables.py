"""The schema. Public ids are text; inside, rows have numbers that processes make up without asking the database.

Work and history are apart: `queue` is narrow and holds only what is still to be done, so that claiming stays cheap whatever
lies in `transactions`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    true,
)

metadata = MetaData()

# SQLite makes a primary key its row id only when its type is INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uri", Text, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("last_update", Double, nullable=False),
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("rest_id", Text, nullable=False, unique=True),
    Column("envelope", Text, nullable=False),
    Column("spec", Text),
    Column("retry", Boolean, nullable=False),
    Column("notification", Boolean, nullable=False),
    Column("destination", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("responses", Text, nullable=False),
    Column("final_reason", Text),
    Column("cancelled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)
Index("transactions_finished", transactions.c.updated, postgresql_where=transactions.c.final_reason.is_not(None))

queue = Table(
    "queue",
    metadata,
    Column("tx_id", _Id, ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("due_at", Double, nullable=False),
    Column("destination", Text, nullable=False),
    Column("session_id", Integer),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("held", Boolean, nullable=False),
)
Index(
    "queue_due",
    queue.c.due_at,
    postgresql_where=queue.c.session_id.is_(None) & (queue.c.ready == true()) & (queue.c.held == false()),
)
Index("queue_session", queue.c.session_id)

attempts = Table(
    "attempts",
    metadata,
    Column("tx_id", _Id, ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("session_id", Integer, nullable=False),
    Column("responses", Text, nullable=False),
    Column("ended", Double, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("length", BigInteger),
    Column("updated", Double, nullable=False),
)

blob_chunks = Table(
    "blob_chunks",
    metadata,
    Column("blob_id", _Id, ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

blob_refs = Table(
    "blob_refs",
    metadata,
    Column("tx_id", _Id, ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("blob_id", _Id, ForeignKey("blobs.id"), nullable=False),
)
Index("blob_refs_blob", blob_refs.c.blob_id)
