"""Stores, and transactions to put into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from koukan.blob.bodies import BytesBody
from koukan.config.router import StorageConfig
from koukan.model import Mailbox, Response, Sender
from koukan.storage.database import Row
from koukan.storage.reaping import SEEN_SILENT
from koukan.storage.sql_store import SqlStore
from koukan.storage.statement import Statement
from koukan.storage.store import AttemptEnd, Envelope, NewTransaction, Responses

BODY = b"Subject: test\r\n\r\nhello\r\n"
DELIVERED = Responses(Response(250, "ok"), (Response(250, "ok"),), Response(250, "delivered"))
DEFERRED = Responses(Response(250, "ok"), (Response(450, "not now"),))
SUCCESS = "upstream response success"
#: seconds between heartbeats of sessions that are not under test
QUIET = 60.0


async def open_store(
    url: str, uri: str = "http://router-1:8000", interval: float = QUIET, on_fenced: Callable[[], None] = lambda: None
) -> SqlStore:
    config = StorageConfig(url=url, session_refresh_interval=interval, blob_tx_refresh_interval=10)
    return await SqlStore.open(config, session_uri=uri, on_fenced=on_fenced)


@asynccontextmanager
async def opened(url: str, uri: str = "http://router-1:8000", interval: float = QUIET) -> AsyncIterator[SqlStore]:
    store = await open_store(url, uri, interval)
    try:
        yield store
    finally:
        await store.close()


async def crash(store: SqlStore) -> None:
    """What a killed process leaves behind: nothing is given back."""
    await store._upkeep.stop()
    await store._session.stop()
    await store._writer.close()
    await store._database.close()


async def see_silence(store: SqlStore) -> None:
    """Let a store look after the others for as long as it takes to be sure that somebody is silent."""
    reaper = store._reaper
    now = reaper._time()
    for beat in range(SEEN_SILENT + 1):
        reaper._time = partial(float, now + beat * reaper._interval)
        await reaper.reap()


async def sql(store: SqlStore, text: str, *parameters: object) -> Sequence[Row]:
    """A statement of the test's own, in the store's database."""
    return await store._database.fetch(Statement(text), *parameters)


async def count(store: SqlStore, table: str) -> int:
    number: int = (await sql(store, f"SELECT count(*) AS n FROM {table}"))[0]["n"]
    return number


def transaction(tx_id: str, *, rcpt: str = "bob@example.com", **more: Any) -> NewTransaction:
    """Work for one recipient, due at once unless said otherwise."""
    envelope = Envelope(Sender("submission"), Mailbox("ann@example.net"), (Mailbox(rcpt),))
    return NewTransaction(
        **{"id": tx_id, "envelope": envelope, "body": BytesBody(BODY), "destination": rcpt.rpartition("@")[2], **more}
    )


def delivered(tx_id: str, attempt: int = 1, **more: Any) -> AttemptEnd:
    return AttemptEnd(tx_id, attempt, DELIVERED, SUCCESS, **more)


def deferred(tx_id: str, attempt: int = 1, retry_in: float = 3600, **more: Any) -> AttemptEnd:
    return AttemptEnd(tx_id, attempt, DEFERRED, None, retry_in, **more)
