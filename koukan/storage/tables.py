"""The schema.

Rows have numbers that processes make up without asking the database (rows.Numbers); public ids are text. Work and history are
apart: `queue` is narrow and holds only what is still to be done, so that claiming stays cheap whatever lies in `transactions`.
Times are the database's own, in seconds since 1970.

Foreign keys stand where two processes could disagree: on what refers to a blob while another one deletes it. The others would
cost as much as the rows themselves, when they are written and again when they are deleted; what belongs to a transaction is
written in one database transaction, and deleted in one (`collection`).
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
    text,
)

metadata = MetaData()

# SQLite makes a primary key its row id only when its type is INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: one row per process start
sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uri", Text, nullable=False),
    Column("live", Boolean, nullable=False),
    #: in good order: what it still holds is nobody's crash
    Column("ended", Boolean, nullable=False, server_default=false()),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    # Numbers are never given twice: ids of transactions and rows begin with them.
    sqlite_autoincrement=True,
)

#: everything that has come in and is remembered
transactions = Table(
    "transactions",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("rest_id", Text, nullable=False, unique=True),
    # JSON as text: it is stored and read whole, and text costs the server no parsing
    Column("envelope", Text, nullable=False),
    Column("spec", Text),
    Column("retry", Boolean, nullable=False),
    Column("notification", Boolean, nullable=False),
    Column("destination", Text, nullable=False),
    #: number of the newest attempt that has ended, or was under way when the row was written
    Column("attempts", Integer, nullable=False),
    Column("responses", Text, nullable=False),
    Column("final_reason", Text),
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)
_final = text("final_reason IS NOT NULL")
Index("transactions_final", transactions.c.updated, postgresql_where=_final, sqlite_where=_final)

#: what is still to be done, leased or not
queue = Table(
    "queue",
    metadata,
    Column("tx_id", _Number, primary_key=True, autoincrement=False),
    #: NULL while blobs are missing
    Column("due_at", Double),
    Column("destination", Text, nullable=False),
    #: holder of the lease
    Column("session_id", Integer),
    #: number of the attempt that is under way, or was last: with session_id the fencing token of its writes
    Column("attempt", Integer, nullable=False),
    #: attempts in a row that ended with their process
    Column("crashes", Integer, nullable=False),
    #: why it is not attempted although it is due
    Column("held", Text),
    #: attempts that a next hop answered, or that failed to reach one
    Column("tries", Integer, nullable=False, server_default="0"),
    #: its client has cancelled it while somebody held it: it is over when the lease is given back
    Column("cancelled", Boolean, nullable=False, server_default=false()),
    #: when the next attempt may begin at the earliest, for what waits for bytes meanwhile
    Column("not_before", Double),
)
_claimable = text("session_id IS NULL AND held IS NULL")
_suspect = text("session_id IS NULL AND held IS NULL AND crashes > 0")
_leased = text("session_id IS NOT NULL")
Index("queue_due", queue.c.due_at, postgresql_where=_claimable, sqlite_where=_claimable)
Index("queue_suspects", queue.c.due_at, postgresql_where=_suspect, sqlite_where=_suspect)
Index("queue_destinations", queue.c.destination, queue.c.due_at, postgresql_where=_claimable, sqlite_where=_claimable)
Index("queue_leased", queue.c.tx_id, postgresql_where=_leased, sqlite_where=_leased)

#: attempts that have ended, with their answers
attempts = Table(
    "attempts",
    metadata,
    Column("tx_id", _Number, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("session_id", Integer, nullable=False),
    Column("responses", Text, nullable=False),
    Column("ended", Double, nullable=False),
)

#: bodies and attachments; what no transaction refers to is deleted
blobs = Table(
    "blobs",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    #: final size once known; the blob is complete when both are equal
    Column("length", BigInteger),
    #: stored ahead of the transactions that are going to refer to it
    Column("staged", Boolean, nullable=False),
    Column("updated", Double, nullable=False),
)
_staged = text("staged")
Index("blobs_staged", blobs.c.updated, postgresql_where=_staged, sqlite_where=_staged)

#: the bytes of blobs, in rows that are never rewritten
blob_chunks = Table(
    "blob_chunks",
    metadata,
    Column("blob_id", _Number, ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

#: which transactions need a blob: its reference count
blob_refs = Table(
    "blob_refs",
    metadata,
    Column("tx_id", _Number, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("blob_id", _Number, ForeignKey("blobs.id"), nullable=False),
)
Index("blob_refs_blob", blob_refs.c.blob_id)
