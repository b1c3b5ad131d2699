"""The second schema from the first one, with all mail in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic import command
from alembic.config import Config

from koukan.storage.database import Database
from koukan.storage.migrate import upgrade
from koukan.storage.sql_store import _open_database
from koukan.storage.statement import Statement
from koukan.storage.url import parse_url
from tests.support.stores import BODY, deferred, delivered, opened, sql

#: as a router of the first schema has written it: sender, one recipient, a body of one chunk
_TRANSACTION = """
    INSERT INTO transactions (id, rest_id, envelope, retry, notification, destination, attempts, responses, version, created,
        updated)
    VALUES ($1, $2,
        '{{"sender":["submission",null],"mail_from":{{"m":"ann@example.net"}},"rcpt_to":[{{"m":"bob@example.com"}}]}}',
        true, true, 'example.com', $3, '{{}}', 1, {now} - 100, {now} - 100)
"""
_QUEUE = """
    INSERT INTO queue (tx_id, due_at, destination, session_id, attempt, crashes, held)
    VALUES ($1, {now} - 10, 'example.com', $2, $3, 0, $4)
"""
_ATTEMPT = "INSERT INTO attempts (tx_id, number, session_id, responses, ended) VALUES ($1, $2, 1, $3, {now} - 50)"
_BLOB = "INSERT INTO blobs (id, size, length, staged, updated) VALUES ($1, $2, $2, false, {now})"
_CHUNK = "INSERT INTO blob_chunks (blob_id, start, data) VALUES ($1, 0, $2)"
_REF = "INSERT INTO blob_refs (tx_id, name, blob_id) VALUES ($1, 'body', $1)"

DEFERRED = '{"mail":{"code":250,"message":"ok"},"rcpt":[{"code":450,"message":"4.2.1 not now"}]}'
PUT_BACK = '{"mail":{"code":451,"message":"4.3.5 sender gone is not in the configuration"}}'


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    empty: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url")
    return empty


@pytest.fixture
async def first_schema_url(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of the first schema: three tries, one put back again and again, one under way, one held."""
    newest: Callable[[Config, str], None] = command.upgrade
    with monkeypatch.context() as first:
        first.setattr(command, "upgrade", lambda config, _: newest(config, "0001"))
        await upgrade(parse_url(url))
    database = await _open_database(parse_url(url))
    await _fill(database)
    await database.close()
    return url


async def _fill(database: Database) -> None:
    async def do(text: str, *parameters: object) -> None:
        await database.fetch(Statement(text), *parameters)

    await do("INSERT INTO sessions (uri, live, created, updated) VALUES ('http://old:8000', false, {now}, {now})")
    for number, (name, attempts, session, held, answers) in enumerate(
        [
            ("tried", 3, None, None, [DEFERRED] * 3),
            ("put-back", 9, None, None, [DEFERRED, *[PUT_BACK] * 8]),
            ("running", 2, 1, None, [DEFERRED]),
            ("held", 3, None, "quarantined: long ago", []),
        ],
        1,
    ):
        await do(_TRANSACTION, number, name, attempts)
        await do(_QUEUE, number, session, attempts, held)
        for ended, answer in enumerate(answers, 1):
            await do(_ATTEMPT, number, ended, answer)
        await do(_BLOB, number, len(BODY))
        await do(_CHUNK, number, BODY)
        await do(_REF, number)


async def test_all_mail_is_there_with_its_tries_and_is_claimed_and_finished(first_schema_url: str) -> None:
    async with opened(first_schema_url) as store:
        rows = await sql(
            store,
            "SELECT rest_id, attempt, tries, cancelled, held FROM queue JOIN transactions ON id = tx_id ORDER BY id",
        )
        assert [(row["rest_id"], row["attempt"], row["tries"], bool(row["cancelled"])) for row in rows] == [
            ("tried", 3, 3, False),
            ("put-back", 9, 1, False),
            ("running", 2, 1, False),
            ("held", 3, 0, False),
        ]
        assert rows[3]["held"] == "quarantined: long ago"
        found = {claimed.id: claimed for claimed in await store.claim(10)}
        # what a dead process held is a suspect, and the only one
        assert {name: (claimed.attempts, claimed.tries) for name, claimed in found.items()} == {
            "tried": (4, 3),
            "put-back": (10, 1),
            "running": (3, 1),
        }
        assert await store.read_body(found["tried"]).read() == BODY
        await store.finish_attempt(delivered("tried", 4))
        await store.finish_attempt(deferred("put-back", 10))
        assert [row["tries"] for row in await sql(store, "SELECT tries FROM queue ORDER BY tx_id")] == [2, 1, 0]


async def test_a_router_of_the_first_schema_goes_on_beside_the_new_one(first_schema_url: str) -> None:
    """While replicas are replaced, old ones insert without the new columns."""
    async with opened(first_schema_url) as store:
        await sql(store, _TRANSACTION, 9, "from-old", 0)
        await sql(store, _QUEUE, 9, None, 0, None)
        await sql(store, _BLOB, 9, len(BODY))
        await sql(store, _CHUNK, 9, BODY)
        await sql(store, _REF, 9)
        found = {claimed.id: claimed.tries for claimed in await store.claim(10)}
        assert found["from-old"] == 0
