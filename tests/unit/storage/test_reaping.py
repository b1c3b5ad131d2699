"""Who is declared dead: silent by the database's clock, and seen to be silent by our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import orjson
import pytest

from koukan import clock
from koukan.errors import StoreError
from koukan.storage import reaping
from koukan.storage.database import Database
from koukan.storage.reaping import DEAD_AFTER, Reaper
from koukan.storage.sessions import Session
from koukan.storage.statement import Statement
from koukan.storage.upkeep import Upkeep

INTERVAL = 30.0


class Sessions:
    """The sessions of a database with a clock of its own, which somebody may set."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.updated: dict[int, float] = {}
        self.down = False
        self.ended = 0

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Any]:
        if self.down:
            raise StoreError("the database is away")
        if statement is reaping._OTHERS:
            return [
                {"id": number, "uri": "", "updated": updated, "silent": self.clock - updated}
                for number, updated in self.updated.items()
            ]
        if statement is reaping._DECLARE_DEAD:
            rows = orjson.loads(cast("str", parameters[0]))
            return [{"id": row["id"], "uri": self.updated.pop(row["id"])} for row in rows]
        return []

    async def transaction(self, work: Callable[[Any], Awaitable[None]]) -> None:
        if self.down:
            raise StoreError("the database is away")
        self.ended += 1


class World:
    """Others beat or are silent, time goes by, and one process looks."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.own_clock = 50.0
        self.reaper = Reaper(cast("Database", self.sessions), 1, INTERVAL, lambda: self.own_clock)

    async def go_on(self, beats: int, *alive: int) -> None:
        """Intervals go by, in which those beat, and our process looks if it can."""
        for _ in range(beats):
            self.sessions.clock += INTERVAL
            self.own_clock += INTERVAL
            for number in alive:
                self.sessions.updated[number] = self.sessions.clock
            try:
                await self.reaper.reap()
            except StoreError:
                assert self.sessions.down

    @property
    def live(self) -> set[int]:
        return set(self.sessions.updated)


@pytest.fixture
def world() -> World:
    world = World()
    world.sessions.updated = {2: 1000.0, 3: 1000.0}
    return world


async def test_the_silent_are_dead_after_ten_beats_and_those_who_beat_are_not(world: World) -> None:
    await world.go_on(DEAD_AFTER, 2)
    assert world.live == {2, 3}
    await world.go_on(1, 2)
    assert world.live == {2}


async def test_a_jump_of_the_databases_clock_kills_nobody(world: World) -> None:
    await world.go_on(3, 2, 3)
    world.sessions.clock += 86_400
    await world.reaper.reap()  # before the others had a chance
    assert world.live == {2, 3}
    await world.go_on(20, 2, 3)
    assert world.live == {2, 3}
    await world.go_on(DEAD_AFTER + 1, 2)
    assert world.live == {2}


async def test_after_an_outage_the_others_get_the_time_to_be_heard(world: World) -> None:
    await world.go_on(3, 2, 3)
    world.sessions.down = True
    await world.go_on(100)
    world.sessions.down = False
    await world.go_on(1)
    assert world.live == {2, 3}
    await world.go_on(5, 2)  # one of them is back
    assert world.live == {2}


async def test_a_process_that_stood_still_has_not_seen_that_the_others_were_silent(world: World) -> None:
    await world.go_on(3, 2, 3)
    world.own_clock += 100 * INTERVAL
    world.sessions.clock += 100 * INTERVAL
    await world.reaper.reap()
    assert world.live == {2, 3}


async def test_a_newcomer_looks_first(world: World) -> None:
    world.sessions.clock += 1000 * INTERVAL
    await world.reaper.reap()
    assert world.live == {2, 3}
    await world.go_on(2, 2)
    assert world.live == {2}


async def test_a_lost_session_is_ended_in_order_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping, "PARTING_PAUSE", 0.001)
    sessions = Sessions()
    sessions.down = True
    ending = asyncio.ensure_future(Reaper(cast("Database", sessions), 1, INTERVAL).end_session(patience=60))
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert not ending.done()
    sessions.down = False
    await ending
    assert sessions.ended == 1


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping, "PARTING_PAUSE", 0)
    sessions = Sessions()
    sessions.down = True
    times = iter(range(0, 1000, 10))
    reaper = Reaper(cast("Database", sessions), 1, INTERVAL, lambda: float(next(times)))
    with pytest.raises(StoreError):
        await reaper.end_session(patience=60)


# --- upkeep and heartbeat ---------------------------------------------------------------------------------------------------


class Beats:
    """A database whose only quick answer is to the heartbeat."""

    def __init__(self) -> None:
        self.beats = asyncio.Semaphore(0)

    async def fetch_apart(self, statement: Statement, *parameters: object) -> Sequence[Any]:
        self.beats.release()
        return [{"id": 1}]

    async def fetch(self, statement: Statement, *parameters: object) -> Sequence[Any]:
        await asyncio.get_running_loop().create_future()
        return []


async def test_the_heart_beats_while_everything_else_hangs() -> None:
    database = Beats()
    lost: list[bool] = []
    session = Session(cast("Database", database), 1, 0.05, lambda: lost.append(True))
    session.start()
    upkeep = Upkeep(0.001, [session.forget_dead])
    async with asyncio.timeout(10):
        for _ in range(2 * 5):
            await database.beats.acquire()
    await upkeep.stop()
    await session.stop()
    assert not session.fenced and not lost


async def test_upkeep_goes_on_after_trouble_and_after_bugs() -> None:
    seen: list[str] = []
    twice = asyncio.Event()

    async def trouble() -> None:
        raise StoreError("the database is away")

    async def bug() -> None:
        raise LookupError("nobody foresaw this")

    async def work() -> None:
        seen.append("done")
        if len(seen) == 2:
            twice.set()

    upkeep = Upkeep(0.001, [trouble, bug, work])
    async with asyncio.timeout(10):
        await twice.wait()
    await upkeep.stop()


async def test_the_clock_of_a_session_counts_suspended_time() -> None:
    """CLOCK_BOOTTIME is never behind the monotonic clock, and ahead of it once the machine has been suspended."""
    loop_time = asyncio.get_running_loop().time()
    assert clock.now() >= loop_time
