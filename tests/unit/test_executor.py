import asyncio
import threading

import pytest

from koukan.errors import Overloaded
from koukan.executor import BoundedExecutor, run_bounded


async def test_work_runs_in_another_thread_and_returns_its_result() -> None:
    assert await run_bounded(threading.get_ident) != threading.get_ident()


async def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await run_bounded(int, "x")


async def test_more_than_the_backlog_is_refused_and_room_comes_back() -> None:
    executor = BoundedExecutor(workers=1, backlog=1)
    gate = threading.Event()
    running = [asyncio.create_task(executor.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="try again later"):
        await executor.run(gate.wait)
    gate.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await executor.run(int, "7") == 7


async def test_cancelled_work_gives_its_place_back() -> None:
    executor = BoundedExecutor(workers=1, backlog=1)
    gate = threading.Event()
    running = asyncio.create_task(executor.run(gate.wait))
    waiting = asyncio.create_task(executor.run(gate.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    instead = asyncio.create_task(executor.run(int, "7"))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(running, instead) == [True, 7]
