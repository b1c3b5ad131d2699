"""An event loop whose time is made up: when nothing is ready, the next timer is due at once, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

#: seconds (real ones) that the kernel gets to hand over what is on its way through loopback before time goes on
SETTLE = 0.0004
#: shorter steps of time are taken without that pause: whoever makes them waits for no peer
FINE = 0.5
#: where its time begins
_BEGIN = 1000.0


class Deadlock(AssertionError):
    """Everybody waits for somebody else, and no timer will ever end it."""


class _LeapingSelector(selectors.DefaultSelector):
    """Waits for sockets only as long as the kernel needs, and makes time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _BEGIN

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or timeout > FINE:
            ready = super().select(SETTLE)
            if ready:
                return ready
        if timeout is None:
            ready = super().select(1)
            if not ready:
                raise Deadlock("nothing is ready, and no timer is set")
            return ready
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For programs that live in one process and talk through loopback; threads would not be waited for."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now

    def leap(self, seconds: float) -> None:
        """Time passes while nobody in this process can do anything, as when it is stopped."""
        self._leaping.now += seconds


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a loop of its own, with the product's clock following the loop's time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, mock.patch("koukan.clock._read", runner.get_loop().time):
        return runner.run(main())
