"""The clock of waits and silences: seconds that only grow, a suspended machine's included.

Linux stops CLOCK_MONOTONIC while a machine sleeps (clock_gettime(2)): who asks it afterwards believes that leases and clients
are as fresh as before. CLOCK_BOOTTIME goes on. Times of different processes, or of before a restart, do not compare.
"""

from __future__ import annotations

import math
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some moment in the past."""
    return _read()


def _read() -> float:
    return time.clock_gettime(_CLOCK)


#: seconds between two beats after which a process counts as having stood still: less than any client waits for an answer, more
#: than an event loop is ever held up
STANDSTILL = 20.0


class Pulse:
    """Notices that the process stood still (stopped, suspended, starved): whom it has to do with may have given it up."""

    def __init__(self) -> None:
        self._last = now()
        self._woke = -math.inf

    def beat(self) -> None:
        """Called about once a second."""
        moment = now()
        if moment - self._last > STANDSTILL:
            self._woke = moment
        self._last = moment

    def stood_still_since(self, moment: float) -> bool:
        """Whether it stood still at some time after `moment`."""
        self.beat()
        return self._woke > moment
