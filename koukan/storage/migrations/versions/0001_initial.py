"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_transactions()
    _create_queue()
    _create_blobs()


def _create_transactions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "transactions",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("rest_id", sa.Text(), nullable=False, unique=True),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text()),
        sa.Column("retry", sa.Boolean(), nullable=False),
        sa.Column("notification", sa.Boolean(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("responses", sa.Text(), nullable=False),
        sa.Column("final_reason", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
    )
    _create_partial_index("transactions_final", "transactions", "updated", "final_reason IS NOT NULL")


def _create_queue() -> None:
    op.create_table(
        "queue",
        _transaction_number(),
        sa.Column("due_at", sa.Double()),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Integer()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("held", sa.Text()),
    )
    _create_partial_index("queue_due", "queue", "due_at", "session_id IS NULL AND held IS NULL")
    _create_partial_index("queue_leased", "queue", "tx_id", "session_id IS NOT NULL")
    op.create_table(
        "attempts",
        _transaction_number(),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("responses", sa.Text(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=False),
    )


def _create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("staged", sa.Boolean(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
    )
    _create_partial_index("blobs_staged", "blobs", "updated", "staged")
    op.create_table(
        "blob_chunks",
        sa.Column(
            "blob_id", _NUMBER, sa.ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    if op.get_context().dialect.name == "postgresql":
        # Compressing mail costs more than the space; and most mail fits into a page, where it needs no second table.
        op.execute("ALTER TABLE blob_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE blob_chunks SET (toast_tuple_target = 8160)")
    op.create_table(
        "blob_refs",
        _transaction_number(),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("blob_id", _NUMBER, sa.ForeignKey("blobs.id"), nullable=False),
    )
    op.create_index("blob_refs_blob", "blob_refs", ["blob_id"])


def _transaction_number() -> sa.Column[int]:
    return sa.Column("tx_id", _NUMBER, primary_key=True, autoincrement=False)


def _create_partial_index(name: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    for table in ("blob_refs", "blob_chunks", "blobs", "attempts", "queue", "transactions", "sessions"):
        op.drop_table(table)
