"""kill -9 of routers, and connections to the database cut all the time, under load: a ledger of what was accepted balances.

Accepted is what was answered 250, or 201 and 200 for its bytes. Afterwards each of it is delivered, bounced, queued, cancelled
or held, and nothing is delivered twice but what was in flight when a process was killed.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.house import becomes, eventually
from tests.support.postgres import PostgresServer
from tests.support.smtp_dialogue import message, send
from tests.support.town import Town, together

#: senders at the same time, half of them by SMTP
WORKERS = 6
#: accepted between one fault and the next
LOAD = 15

_SUBJECT = re.compile(rb"^Subject: (w\d+n\d+\S*)\r?$", re.MULTILINE)
_FINAL_RECIPIENT = re.compile(rb"^Final-Recipient: rfc822; ?unknown-(w\d+n\d+-unknown)@", re.MULTILINE | re.IGNORECASE)
_CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_LEASED = "SELECT count(*) FROM queue WHERE session_id IS NOT NULL"
_CANCELLED = "SELECT count(*) FROM transactions WHERE rest_id = $1 AND final_reason = 'downstream cancelled'"
_WAITING = """
    SELECT data FROM queue JOIN blob_refs f USING (tx_id) JOIN blob_chunks c ON c.blob_id = f.blob_id
    WHERE due_at > extract(epoch FROM now()) + 600 OR held IS NOT NULL
"""


def impatient(document: dict[str, Any]) -> None:
    """What fails comes back soon, except what is to be found in the queue at the end."""
    document["global"]["drain_timeout"] = 1
    document["storage"]["session_refresh_interval"] = 2


@dataclass
class Ledger:
    """What was promised, by subject."""

    accepted: set[str] = field(default_factory=set)
    #: transactions whose cancel was answered 200, by subject
    cancelled: dict[str, str] = field(default_factory=dict)
    #: leased when a process was killed
    in_flight: int = 0


class Load:
    """Senders that never stop: mail that is taken, mail that is refused for good, mail whose client thinks better of it."""

    def __init__(self, town: Town, ledger: Ledger) -> None:
        self._town = town
        self._ledger = ledger
        self._over = asyncio.Event()
        #: by kind of error: nothing was promised
        self.refused: Counter[str] = Counter()
        self._kinds = itertools.cycle(["bob", "bob", "unknown", "bob", "bob", "cancelled"])

    async def run(self) -> None:
        async with aiohttp.ClientSession() as http:
            await together([self._work(worker, http) for worker in range(WORKERS)])

    def end(self) -> None:
        self._over.set()

    async def more(self) -> None:
        wanted = len(self._ledger.accepted) + LOAD
        await eventually(lambda: len(self._ledger.accepted) >= wanted, 20)

    async def _work(self, worker: int, http: aiohttp.ClientSession) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            known = len(self._ledger.accepted)
            try:
                await self._send(http, worker, f"w{worker}n{number}")
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.refused[type(error).__name__] += 1
            if len(self._ledger.accepted) == known:
                await asyncio.sleep(0.1)  # as clients do, and the router has the processor for its start

    async def _send(self, http: aiohttp.ClientSession, worker: int, subject: str) -> None:
        if worker % 2:
            await self._by_smtp(subject)
        else:
            await self._by_rest(http, subject, next(self._kinds))

    async def _by_smtp(self, subject: str) -> None:
        replies = await send(self._town.msa, "ann@example.net", ["bob@example.com"], message(subject))
        if [reply.code for reply in replies] == [250, 250, 250]:
            self._ledger.accepted.add(subject)

    async def _by_rest(self, http: aiohttp.ClientSession, subject: str, kind: str) -> None:
        subject += f"-{kind}"
        rcpt = ("rcpttimeout-" if kind == "cancelled" else "") + f"{kind}-{subject}"
        document = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": f"{rcpt}@example.com"}]}
        async with http.post(f"{self._town.rest}/senders/submission/transactions", json=document) as created:
            if created.status != 201:
                return
            location = created.headers["location"]
        async with http.put(f"{location}/body", data=message(subject)) as uploaded:
            if uploaded.status != 200:
                return
        self._ledger.accepted.add(subject)
        if kind == "cancelled":
            async with http.post(f"{location}/cancel") as answered:
                if answered.status == 200:
                    self._ledger.cancelled[subject] = location.rpartition("/")[2]


@pytest.fixture
async def town(tmp_path: Path, postgres_url: str) -> AsyncIterator[Town]:
    async with Town(tmp_path, postgres_url, impatient) as town:
        yield town


@pytest.fixture
async def database(postgres_server: PostgresServer, postgres_url: str) -> AsyncIterator[Any]:
    connection = await postgres_server.connect(urlsplit(postgres_url).path[1:])
    yield connection
    await connection.close()


def delivered(town: Town) -> Counter[str]:
    return Counter(mail.subject for mail in town.sink.received if mail.mail_from)


def bounced(town: Town) -> Counter[str]:
    """What notifications tell of. They quote no message that was refused before it had arrived, but they name its recipient."""
    reports = (mail.content for mail in town.sink.received if not mail.mail_from)
    return Counter(found[1].decode() for report in reports if (found := _FINAL_RECIPIENT.search(report)))


def quoted(content: bytes) -> Iterator[str]:
    return (found.decode() for found in _SUBJECT.findall(content))


async def missing(town: Town, database: Any, ledger: Ledger) -> set[str]:
    """What was accepted and is nowhere."""
    waiting = {subject for row in await database.fetch(_WAITING) for subject in quoted(row["data"])}
    gone = {subject for subject, tx in ledger.cancelled.items() if await database.fetchval(_CANCELLED, tx)}
    return ledger.accepted - delivered(town).keys() - bounced(town).keys() - waiting - gone


async def balances(town: Town, database: Any, ledger: Ledger) -> bool:
    return not await missing(town, database, ledger)


async def settle(town: Town, database: Any, ledger: Ledger) -> None:
    """After the storm: recipients that were silent answer, everything ends, and the ledger balances."""
    town.sink.take("rcpttimeout")
    try:
        await becomes(partial(balances, town, database, ledger), 15)
    except AssertionError:
        raise AssertionError(f"lost: {sorted(await missing(town, database, ledger))}") from None
    twice = sum(number - 1 for number in (delivered(town) + bounced(town)).values())
    assert twice <= ledger.in_flight, (delivered(town) + bounced(town)).most_common(10)
    for subject, tx in ledger.cancelled.items():
        assert await database.fetchval(_CANCELLED, tx) == 1, f"{subject} was cancelled"
        assert subject not in delivered(town)


async def kill(town: Town, database: Any, ledger: Ledger) -> None:
    """Stop it where it is, count what it holds, and kill it."""
    before = town.count("router", "ready")
    town.signal("router", signal.SIGSTOP)
    ledger.in_flight += await database.fetchval(_LEASED)
    town.signal("router", signal.SIGKILL)
    await town.is_ready_again("router", before)


async def test_kill_9_of_the_router_again_and_again(town: Town, database: Any) -> None:
    ledger = Ledger()
    load = Load(town, ledger)
    running = asyncio.ensure_future(load.run())
    for _ in range(3):
        await load.more()
        await kill(town, database, ledger)
    await load.more()
    load.end()
    await running
    await settle(town, database, ledger)


async def test_connections_to_the_database_that_are_cut_all_the_time(town: Town, database: Any) -> None:
    ledger = Ledger()
    load = Load(town, ledger)
    running = asyncio.ensure_future(load.run())
    for _ in range(10):
        wanted = len(ledger.accepted) + LOAD
        while len(ledger.accepted) < wanted:
            await database.execute(_CUT)
            await database.execute("SELECT pg_sleep(0.05)")
    load.end()
    await running
    await settle(town, database, ledger)
    assert town.count("router", "ready") == 1, "a cut connection is no reason to end"
