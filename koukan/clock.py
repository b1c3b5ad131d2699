"""The clock of waits and silences: seconds that only grow, a suspended machine's included.

Linux stops CLOCK_MONOTONIC while a machine sleeps (clock_gettime(2)): who asks it afterwards believes that leases and clients
are as fresh as before. CLOCK_BOOTTIME goes on. Times of different processes, or of before a restart, do not compare.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some moment in the past."""
    return _read()


def _read() -> float:
    return time.clock_gettime(_CLOCK)
