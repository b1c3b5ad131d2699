"""The work queue: once, never twice at a time, again after failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from koukan_operator import queue
from koukan_operator.queue import MAX_RETRY, RETRY, WorkQueue, retry_pause

from koukan.errors import KoukanError


@asynccontextmanager
async def running(work: Callable[[str], Awaitable[float | None]], workers: int = 2) -> AsyncIterator[WorkQueue[str]]:
    found = WorkQueue(work)
    tasks = [asyncio.create_task(found.run()) for _ in range(workers)]
    try:
        async with asyncio.timeout(10):
            yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_triggers_in_quick_succession_are_one_piece_of_work() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    async with running(work) as found:
        for _ in range(10):
            await found.add("a", 0.02)
            await found.add("b", 0.02)
        await found.join()
    assert sorted(done) == ["a", "b"]


async def test_an_earlier_wish_stands() -> None:
    moments: list[float] = []

    async def work(key: str) -> None:
        moments.append(asyncio.get_running_loop().time())

    async with running(work) as found:
        started = asyncio.get_running_loop().time()
        await found.add("a", 0)
        await found.add("a", 30)
        await found.join()
    assert len(moments) == 1
    assert moments[0] - started < 5


async def test_a_key_is_never_done_twice_at_the_same_time_and_comes_again_afterwards() -> None:
    under_way, peak, done = 0, 0, 0
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        nonlocal under_way, peak, done
        under_way += 1
        peak = max(peak, under_way)
        started.set()
        await go_on.wait()
        under_way -= 1
        done += 1

    async with running(work, workers=4) as found:
        await found.add("a", 0)
        await started.wait()
        await found.add("a", 0)
        await found.add("a", 0)
        go_on.set()
        await found.join()
    assert (peak, done) == (1, 2)


async def test_a_busy_key_does_not_hold_up_others() -> None:
    done = asyncio.Event()
    go_on = asyncio.Event()

    async def work(key: str) -> None:
        if key == "slow":
            await go_on.wait()
        else:
            done.set()

    async with running(work) as found:
        await found.add("slow", 0)
        await asyncio.sleep(0)
        await found.add("slow", 0)
        await found.add("quick", 0)
        await done.wait()
        go_on.set()
        await found.join()


@pytest.mark.parametrize("error", [KoukanError("refused"), RuntimeError("a bug of ours")])
async def test_what_fails_is_tried_again_and_other_keys_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "RETRY", 0.001)
    attempts: list[str] = []

    async def work(key: str) -> None:
        attempts.append(key)
        if key == "a" and attempts.count("a") < 3:
            raise error

    async with running(work) as found:
        await found.add("a", 0)
        await found.add("b", 0)
        await found.join()
    assert attempts.count("a") == 3
    assert attempts.count("b") == 1
    assert str(error) in caplog.text


async def test_work_may_ask_to_come_again() -> None:
    done: list[str] = []

    async def work(key: str) -> float | None:
        done.append(key)
        return 0.001 if len(done) < 3 else None

    async with running(work) as found:
        await found.add("a", 0)
        await found.join()
    assert len(done) == 3


def test_pauses_grow_to_a_bound_and_are_varied() -> None:
    first = [retry_pause(0) for _ in range(100)]
    assert all(RETRY / 2 <= pause <= RETRY * 1.5 for pause in first)
    assert len(set(first)) > 50
    assert all(MAX_RETRY / 2 <= retry_pause(failures) <= MAX_RETRY * 1.5 for failures in (12, 40, 10_000))
