"""Shares of running attempts: whoever hangs leaves room for the others, and everybody gets on."""

from __future__ import annotations

from collections import Counter

import pytest

from koukan.storage.fairness import Due, Shares, choose, fill


def due(*destinations: str) -> list[Due]:
    return [Due(number, destination) for number, destination in enumerate(destinations)]


def taken(chosen: list[Due]) -> Counter[str]:
    return Counter(item.destination for item in chosen)


def test_one_destination_takes_a_half_and_the_next_a_half_of_the_rest() -> None:
    queue = due(*["dead.example"] * 100, *["slow.example"] * 100, *["third.example"] * 100, "fine.example")
    chosen = choose(queue, 50, Shares({}, 50))
    assert taken(chosen) == {"dead.example": 25, "slow.example": 12, "third.example": 6, "fine.example": 1}


def test_what_is_running_counts() -> None:
    running = {"dead.example": 25}
    assert choose(due(*["dead.example"] * 10), 25, Shares(running, 50)) == []
    assert taken(choose(due("dead.example", "fine.example"), 25, Shares(running, 50))) == {"fine.example": 1}
    # it has used less than its share when others have left
    assert len(choose(due(*["dead.example"] * 30), 40, Shares({"dead.example": 10}, 50))) == 15


@pytest.mark.parametrize("hanging", [1, 2, 3, 5])
def test_when_some_hang_there_is_room_for_the_next(hanging: int) -> None:
    running: Counter[str] = Counter()
    for number in range(hanging):
        name = f"dead{number}.example"
        running.update(taken(choose(due(*[name] * 100), 50 - running.total(), Shares(running, 50))))
        assert running[name] >= 1
    assert running.total() < 50
    assert choose(due("fine.example"), 50 - running.total(), Shares(running, 50))


def test_with_one_place_it_is_anybodys() -> None:
    assert taken(choose(due("a.example", "b.example"), 1, Shares({}, 1))) == {"a.example": 1}
    assert Shares({"a.example": 1}, 1).full() == ["a.example"]


def test_the_order_of_due_times_is_kept_and_the_limit_too() -> None:
    queue = due("a.example", "b.example", "a.example", "c.example", "d.example")
    assert choose(queue, 3, Shares({}, 10)) == queue[:3]


def test_what_nobody_else_waits_for_is_filled_up() -> None:
    queue = due(*["big.example"] * 20, "small.example")
    chosen = choose(queue, 10, Shares({}, 10))
    assert taken(chosen) == {"big.example": 5, "small.example": 1}
    assert taken(fill(chosen, queue, 10)) == {"big.example": 9, "small.example": 1}
