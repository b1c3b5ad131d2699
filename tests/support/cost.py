"""What work costs, in a measure that is the same on every machine: processor time beside that of a loop of the same process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

#: seconds of the loop on the machine that the bounds of the tests were measured on, three times above what was measured there
REFERENCE = 0.015
_WORDS = re.compile(rb"[a-z]+")
_TEXT = b"the quick brown fox; jumps=over (the) <lazy> dog, " * 200


def calibration() -> float:
    """Processor seconds of a loop of what parsers do: searching bytes, making strings, filling lists and dictionaries."""
    began = process_time()
    for number in range(16):
        found: dict[str, int] = {}
        for word in _WORDS.finditer(_TEXT):
            name = word[0].decode() + str(word.start() % 97 + number)
            found[name] = found.get(name, 0) + len(name)
        assert len(found) > 100
    return process_time() - began


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """The block costs so many seconds of the reference machine's processor at most."""
    before = calibration()
    began = process_time()
    yield
    used = process_time() - began
    loop = max(before, calibration())  # whatever slows the machine down comes and goes
    assert used / loop * REFERENCE < seconds, f"{used:.3f} s beside {loop:.4f} s of the loop"
