"""A program's end: told to stop it ends well, failing it says so."""

from __future__ import annotations

import gc

import pytest

from koukan.cli.process import EXIT_FAILED, EXIT_OK, serve
from koukan.lifecycle import Lifecycle, Stopping


class Program:
    """One background loop, which fails or asks for a stop."""

    def __init__(self, fails: bool) -> None:
        self.stopping = Stopping()
        self.stopped = False
        self._fails = fails
        self._parts = Lifecycle(self.stopping)

    async def start(self) -> None:
        self._parts.run(self._loop())

    async def stop(self) -> None:
        await self._parts.stop()
        self.stopped = True

    async def _loop(self) -> None:
        if self._fails:
            raise RuntimeError("a bug")
        self.stopping.set()


@pytest.mark.parametrize(("fails", "code"), [(False, EXIT_OK), (True, EXIT_FAILED)])
async def test_the_exit_code_tells_a_failure_from_a_stop(fails: bool, code: int) -> None:
    program, threshold = Program(fails), gc.get_threshold()
    try:
        assert await serve(program) == code
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
    assert program.stopped
