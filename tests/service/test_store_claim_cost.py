"""What a claim costs: as many pages as it looks at mail and destinations, however long the backlog behind them is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from koukan.storage import leases
from koukan.storage.sql_store import SqlStore
from koukan.storage.statement import Statement
from tests.support.stores import opened, sql

#: due mail to one destination that hangs, and mail to so many others behind it
BACKLOG, OTHERS = 60_000, 6_000
#: pages touched for each row that is looked at: an index goes three deep, and then there is the row itself and its lock
PAGES = 12


async def pages(store: SqlStore, statement: Statement, parameters: Sequence[object]) -> int:
    """The pages that a statement touches."""
    explained = Statement("SELECT 1")
    explained.postgresql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.postgresql}"
    [row] = await store._database.fetch(explained, *parameters)
    plan = json.loads(row["QUERY PLAN"])[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_claim_does_not_go_through_a_backlog(postgres_url: str, analyzed: bool) -> None:
    async with opened(postgres_url) as store:
        await sql(
            store,
            """
            INSERT INTO queue (tx_id, due_at, destination, attempt, crashes)
            SELECT n, n, CASE WHEN n <= $1::int THEN 'dead.example' ELSE 'd' || n || '.example' END, 0, 0
            FROM generate_series(1, $1::int + $2::int) n
            """,
            BACKLOG,
            OTHERS,
        )
        if analyzed:
            await sql(store, "ANALYZE queue")
        dead = json.dumps([{"destination": "dead.example"}])
        assert await pages(store, leases._LOOK, (dead, 100, 1)) < 100 * PAGES
        assert await pages(store, leases._DESTINATIONS, ("", 100)) < 100 * PAGES
        names = [row["destination"] for row in await store._database.fetch(leases._DESTINATIONS, "", 100)]
        waiting = json.dumps([{"destination": name} for name in names])
        assert await pages(store, leases._LONGEST_DUE, (waiting,)) < 100 * 2 * PAGES
        numbers = json.dumps([{"id": number} for number in range(1, 51)])
        assert await pages(store, leases._LEASE, (numbers, store.session_id)) < 50 * 4 * PAGES
