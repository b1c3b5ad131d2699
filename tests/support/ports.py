"""Ports for a whole development stack."""

from __future__ import annotations

import random
import socket
from dataclasses import astuple

from koukan.dev.files import Ports


def free_offset() -> int:
    """An offset by which all ports of the stack are free, and below those that the system gives to anybody."""
    candidates = random.sample(range(10_000, 24_000), 100)
    return next(n for n in candidates if all(map(_is_free, astuple(Ports().shifted(n)))))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
