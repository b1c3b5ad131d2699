"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("last_update", sa.Double(), nullable=False),
    )
    op.create_table(
        "transactions",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("rest_id", sa.Text(), nullable=False, unique=True),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text()),
        sa.Column("retry", sa.Boolean(), nullable=False),
        sa.Column("notification", sa.Boolean(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("responses", sa.Text(), nullable=False),
        sa.Column("final_reason", sa.Text()),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
    )
    op.create_index(
        "transactions_finished", "transactions", ["updated"], postgresql_where=sa.text("final_reason IS NOT NULL")
    )
    op.create_table(
        "queue",
        sa.Column(
            "tx_id", _ID, sa.ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Integer()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
    )
    op.create_index(
        "queue_due",
        "queue",
        ["due_at"],
        postgresql_where=sa.text("session_id IS NULL AND ready = true AND held = false"),
    )
    op.create_index("queue_session", "queue", ["session_id"])
    op.create_table(
        "attempts",
        sa.Column(
            "tx_id", _ID, sa.ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("responses", sa.Text(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=False),
    )
    op.create_table(
        "blobs",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("updated", sa.Double(), nullable=False),
    )
    op.create_table(
        "blob_chunks",
        sa.Column("blob_id", _ID, sa.ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "blob_refs",
        sa.Column(
            "tx_id", _ID, sa.ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("blob_id", _ID, sa.ForeignKey("blobs.id"), nullable=False),
    )
    op.create_index("blob_refs_blob", "blob_refs", ["blob_id"])


def downgrade() -> None:
    for table in ("blob_refs", "blob_chunks", "blobs", "attempts", "queue", "transactions", "sessions"):
        op.drop_table(table)
