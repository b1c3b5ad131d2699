"""The reverse index: from an object to the resources that refer to it, whether it exists or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from koukan_operator.kinds import Key


class ReferenceIndex:
    """Who refers to what. A change of a target is looked up here, so it costs what its users cost and nothing more."""

    def __init__(self) -> None:
        self._targets: dict[Key, frozenset[Key]] = {}
        self._users: defaultdict[Key, set[Key]] = defaultdict(set)

    def set(self, user: Key, targets: Iterable[Key]) -> None:
        """From now on `user` refers to exactly these."""
        wanted = frozenset(targets)
        known = self._targets.get(user, frozenset())
        for target in known - wanted:
            self._drop(target, user)
        for target in wanted - known:
            self._users[target].add(user)
        if wanted:
            self._targets[user] = wanted
        else:
            self._targets.pop(user, None)

    def remove(self, user: Key) -> None:
        """The user is gone."""
        self.set(user, ())

    def users_of(self, target: Key) -> frozenset[Key]:
        """Who has to be reconciled when `target` changes."""
        return frozenset(self._users.get(target, ()))

    def _drop(self, target: Key, user: Key) -> None:
        users = self._users[target]
        users.discard(user)
        if not users:
            del self._users[target]
