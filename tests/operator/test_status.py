"""Conditions: what changes, when, and what is worth an event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from koukan_operator.kinds import Document
from koukan_operator.reporter import event_of
from koukan_operator.status import (
    FALSE,
    MAX_MESSAGE,
    PROGRESSING,
    READY,
    TRUE,
    Condition,
    Rollout,
    Status,
    listed,
    merge,
    ready_condition,
    rollout_condition,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
READY_NOW = Condition(READY, TRUE, "PodsReady", "3 of 3 pods are available")
NOT_READY = Condition(READY, FALSE, "PodsNotReady", "2 of 3 pods are available")


def resource(status: Document | None = None, generation: int = 1) -> Document:
    document: Document = {
        "apiVersion": "koukan.io/v1alpha1",
        "kind": "KoukanRouter",
        "metadata": {"name": "mail", "namespace": "mail", "uid": "u", "generation": generation},
    }
    return document if status is None else {**document, "status": status}


def applied(document: Document, wanted: Status, now: datetime) -> Document:
    patch, _ = merge(document, wanted, now)
    merged = {**document.get("status", {}), **(patch or {})}
    return {**document, "status": {name: value for name, value in merged.items() if value is not None}}


def test_a_status_that_is_right_is_not_written() -> None:
    wanted = Status([READY_NOW], {"replicas": 3})
    document = applied(resource(), wanted, NOW)
    assert merge(document, wanted, LATER) == (None, [])


def test_transition_time_moves_with_the_status_alone() -> None:
    document = applied(resource(), Status([NOT_READY]), NOW)
    reworded = Condition(READY, FALSE, "PodsNotReady", "1 of 3 pods are available")
    document = applied(document, Status([reworded]), LATER)
    condition = document["status"]["conditions"][0]
    assert condition["message"] == "1 of 3 pods are available"
    assert condition["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    document = applied(document, Status([READY_NOW]), LATER)
    assert document["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-02T04:04:05Z"


def test_conditions_say_for_which_generation_they_hold() -> None:
    document = applied(resource(), Status([READY_NOW]), NOW)
    document["metadata"]["generation"] = 2
    document = applied(document, Status([READY_NOW]), LATER)
    assert document["status"]["observedGeneration"] == 2
    assert document["status"]["conditions"][0]["observedGeneration"] == 2
    assert document["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_only_what_differs_is_patched_and_what_is_not_wanted_goes() -> None:
    document = applied(resource(), Status([READY_NOW], {"replicas": 3, "serviceUri": "http://a"}), NOW)
    patch, _ = merge(document, Status([READY_NOW], {"replicas": 2}), LATER)
    assert patch == {"replicas": 2, "serviceUri": None}


def test_the_first_status_of_a_resource_is_no_news_unless_something_is_wrong() -> None:
    trouble = Condition("ConfigValid", FALSE, "InvalidResource", "spec.database: must be given")
    moved = merge(resource(), Status([NOT_READY, trouble]), NOW)[1]
    assert moved == [trouble]


def test_a_condition_that_stays_is_no_news() -> None:
    document = applied(resource(), Status([NOT_READY]), NOW)
    assert merge(document, Status([NOT_READY]), LATER)[1] == []
    assert merge(document, Status([READY_NOW]), LATER)[1] == [READY_NOW]


def deployment(desired: int = 3, **status: Any) -> Document:
    return {"metadata": {"generation": 2}, "spec": {"replicas": desired}, "status": status}


DONE = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}


@pytest.mark.parametrize(
    ("document", "ready", "progressing"),
    [
        (None, (FALSE, "NotDeployed"), (TRUE, "RollingOut")),
        (deployment(), (FALSE, "PodsNotReady"), (TRUE, "RollingOut")),
        (deployment(**DONE), (TRUE, "PodsReady"), (FALSE, "Complete")),
        (deployment(**DONE | {"observedGeneration": 1}), (FALSE, "PodsNotReady"), (TRUE, "RollingOut")),
        (deployment(**DONE | {"updatedReplicas": 1}), (TRUE, "PodsReady"), (TRUE, "RollingOut")),
        (deployment(**DONE | {"replicas": 4}), (TRUE, "PodsReady"), (TRUE, "RollingOut")),
        (deployment(**DONE | {"availableReplicas": 2}), (FALSE, "PodsNotReady"), (TRUE, "RollingOut")),
        (deployment(0, observedGeneration=2), (TRUE, "PodsReady"), (FALSE, "Complete")),
    ],
)
def test_readiness_follows_the_deployment(
    document: Document | None, ready: tuple[str, str], progressing: tuple[str, str]
) -> None:
    rollout = Rollout.of(document)
    condition = ready_condition(rollout, "")
    assert (condition.status, condition.reason) == ready
    condition = rollout_condition(rollout, "app=a", "mail")
    assert (condition.status, condition.reason) == progressing


def test_a_rollout_that_is_stuck_says_where_to_look() -> None:
    for said in ("ReplicaSet has timed out", "ReplicaSet has timed out."):
        conditions = [{"type": "Progressing", "status": "False", "message": said}]
        condition = rollout_condition(Rollout.of(deployment(**DONE, conditions=conditions)), "app=a", "mail")
        assert (condition.type, condition.status, condition.reason) == (PROGRESSING, FALSE, "Stalled")
        assert condition.message.endswith("has timed out. See: kubectl -n mail describe pods -l app=a")


@pytest.mark.parametrize("document", [None, deployment()])
def test_pods_that_are_missing_say_where_to_look(document: Document | None) -> None:
    rollout = Rollout.of(document)
    assert ready_condition(rollout, "").message.endswith(": see Progressing")
    assert ready_condition(rollout, "paused; remove it").message.endswith(": paused; remove it")


def test_pods_that_run_an_earlier_configuration_are_ready_and_the_message_says_so() -> None:
    condition = ready_condition(Rollout.of(deployment(**DONE)), "OutputChain news does not exist")
    assert (condition.status, condition.reason) == (TRUE, "LastGoodConfig")
    assert "OutputChain news does not exist" in condition.message


def test_messages_are_bounded() -> None:
    assert listed(["a", "a", "b"]) == "a; b"
    assert listed(str(number) for number in range(9)) == "0; 1; 2; 3; 4; and 4 more"
    assert len(Condition(READY, TRUE, "A", "x" * 10_000).message) == MAX_MESSAGE


def test_an_event_tells_of_its_condition() -> None:
    event = event_of(resource(), NOT_READY, NOW)
    assert event["type"] == "Warning"
    assert event["reason"] == "PodsNotReady"
    assert event["involvedObject"]["uid"] == "u"
    assert event["message"] == "Ready=False: 2 of 3 pods are available"
    assert event_of(resource(), READY_NOW, NOW)["type"] == "Normal"
    assert len(event_of(resource(), Condition(READY, TRUE, "A", "x" * 2000), NOW)["message"]) == 1024
