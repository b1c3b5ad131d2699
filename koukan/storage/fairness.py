"""Fairness: which due transactions a process takes, so that no destination has all of its attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

#: part of what the other destinations leave free that one destination gets: the first to hang takes a half, the second a half
#: of the rest, and so on, so that some of them hang and there still is room, and nobody waits for the timeouts of others
DESTINATION_SHARE = 0.5


class Due(NamedTuple):
    """A due transaction, by its row number."""

    number: int
    destination: str


class Shares:
    """Attempts under way by destination, out of `capacity`."""

    def __init__(self, running: Mapping[str, int], capacity: int) -> None:
        self._running = Counter(running)
        self._total = self._running.total()
        self._capacity = capacity

    def has_room(self, destination: str) -> bool:
        """Whether a destination may have one more. Who has none may always have the last one: everybody gets on."""
        own = self._running[destination]
        left_by_others = self._capacity - (self._total - own)
        return own < max(1, int(left_by_others * DESTINATION_SHARE))

    def take(self, destination: str) -> None:
        self._running[destination] += 1
        self._total += 1

    def full(self) -> list[str]:
        """Destinations that have all they may."""
        return sorted(name for name in self._running if not self.has_room(name))


def choose(due: Iterable[Due], limit: int, shares: Shares) -> list[Due]:
    """Up to `limit` of what is due, in its order, as far as shares go."""
    chosen: list[Due] = []
    for item in due:
        if len(chosen) == limit:
            break
        if shares.has_room(item.destination):
            shares.take(item.destination)
            chosen.append(item)
    return chosen


def fill(chosen: list[Due], due: Sequence[Due], limit: int) -> list[Due]:
    """What was chosen, and what is beyond its share as long as nobody else waits for the room."""
    taken = set(chosen)
    return chosen + [item for item in due if item not in taken][: limit - len(chosen)]
