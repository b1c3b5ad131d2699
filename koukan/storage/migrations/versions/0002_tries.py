"""Tries are counted apart from attempts, cancels are remembered under a lease, sessions say how they ended,
and what waits for bytes keeps the time of its next attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UNLEASED = "session_id IS NULL AND held IS NULL"

# What was put back unattempted has answers of our own making; all others were tries. Too few is better than too many: the
# mail is tried once more.
_COUNT_TRIES = """
    UPDATE queue SET tries = (
        SELECT count(*) FROM attempts a
        WHERE a.tx_id = queue.tx_id AND a.responses NOT LIKE '{"mail":{"code":451,"message":"4.3.5 %')
"""


def upgrade() -> None:
    op.add_column("queue", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("queue", sa.Column("cancelled", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("queue", sa.Column("not_before", sa.Double()))
    op.add_column("sessions", sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.get_bind().exec_driver_sql(_COUNT_TRIES)
    _create_partial_index("queue_suspects", ["due_at"], f"{_UNLEASED} AND crashes > 0")
    _create_partial_index("queue_destinations", ["destination", "due_at"], _UNLEASED)


def _create_partial_index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "queue", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index("queue_destinations", "queue")
    op.drop_index("queue_suspects", "queue")
    op.drop_column("sessions", "ended")
    op.drop_column("queue", "not_before")
    op.drop_column("queue", "cancelled")
    op.drop_column("queue", "tries")
