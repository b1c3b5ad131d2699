"""Status: conditions that say what is and what to do next, and that change only when something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from koukan_operator.kinds import Document

READY = "Ready"
PROGRESSING = "Progressing"
CONFIG_VALID = "ConfigValid"
REFERENCES_RESOLVED = "ReferencesResolved"
ACCEPTED = "Accepted"

TRUE = "True"
FALSE = "False"
UNKNOWN = "Unknown"

#: problems that one message spells out; the rest is counted, so that a message stays one that people read
MAX_NAMED = 5
#: the API's own limit is 32768; what is longer than this nobody reads
MAX_MESSAGE = 2048


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it should be; `reason` in CamelCase, `message` a sentence with the next step."""

    type: str
    status: str
    reason: str
    message: str

    def __post_init__(self) -> None:
        if len(self.message) > MAX_MESSAGE:
            object.__setattr__(self, "message", f"{self.message[: MAX_MESSAGE - 1]}…")


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the Deployment is."""

    desired: int = 0
    current: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    observed: bool = False
    exists: bool = False
    stalled: str = ""

    @classmethod
    def of(cls, deployment: Document | None) -> Rollout:
        """From the Deployment, None when there is none."""
        if deployment is None:
            return cls()
        status = deployment.get("status") or {}
        return cls(
            desired=deployment["spec"].get("replicas", 1),
            current=status.get("replicas", 0),
            updated=status.get("updatedReplicas", 0),
            ready=status.get("readyReplicas", 0),
            available=status.get("availableReplicas", 0),
            observed=status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0),
            exists=True,
            stalled=_stalled(status.get("conditions") or ()),
        )

    @property
    def serving(self) -> bool:
        """As many pods as wanted can take traffic, of whatever version."""
        return self.exists and self.observed and self.available >= self.desired

    @property
    def complete(self) -> bool:
        """Every pod is of the version that is wanted, and there are no others."""
        return self.serving and self.updated >= self.desired and self.current == self.updated


@dataclass(frozen=True, slots=True)
class Status:
    """The status that a resource should have."""

    conditions: Sequence[Condition]
    fields: dict[str, Any] = field(default_factory=dict)


def listed(problems: Iterable[str]) -> str:
    """Problems as one message."""
    lines = list(dict.fromkeys(problems))
    text = "; ".join(lines[:MAX_NAMED])
    return text if len(lines) <= MAX_NAMED else f"{text}; and {len(lines) - MAX_NAMED} more"


def merge(document: Document, wanted: Status, now: datetime) -> tuple[Document | None, list[Condition]]:
    """The status patch for the resource, None when nothing changes, and the conditions that have moved.

    lastTransitionTime moves with a condition's status only (Kubernetes API conventions). Conditions that nobody wants any
    more go; those of other writers, if any, too: status has one writer.
    """
    live = document.get("status") or {}
    known = {condition["type"]: condition for condition in live.get("conditions") or ()}
    generation = document["metadata"].get("generation", 0)
    conditions = [_merged(known.get(condition.type), condition, generation, now) for condition in wanted.conditions]
    moved = [c for c in wanted.conditions if _has_moved(known.get(c.type), c)]
    status: Document = {"observedGeneration": generation, **wanted.fields, "conditions": conditions}
    for name in live:
        status.setdefault(name, None)
    changed = {name: value for name, value in status.items() if live.get(name) != value}
    return changed or None, moved


def rollout_condition(rollout: Rollout, selector: str, namespace: str) -> Condition:
    """Progressing, from how far the Deployment is."""
    where = f"kubectl -n {namespace} describe pods -l {selector}"
    counts = f"{rollout.updated} of {rollout.desired} pods updated, {rollout.available} available"
    if rollout.stalled:
        return Condition(PROGRESSING, FALSE, "Stalled", f"{counts}: {rollout.stalled.rstrip('.')}. See: {where}")
    if rollout.complete:
        return Condition(PROGRESSING, FALSE, "Complete", f"all {rollout.desired} pods run the current configuration")
    return Condition(PROGRESSING, TRUE, "RollingOut", f"{counts}. If it takes long: {where}")


def issue_condition(certificates: Iterable[Document]) -> Condition | None:
    """ReferencesResolved while cert-manager has not made a certificate: its issuer is missing, refuses or takes its time."""
    waiting = []
    for certificate in certificates:
        conditions = (certificate.get("status") or {}).get("conditions") or ()
        ready: Document = next((condition for condition in conditions if condition["type"] == READY), {})
        if ready.get("status") != TRUE:
            name, namespace = certificate["metadata"]["name"], certificate["metadata"]["namespace"]
            said = str(ready.get("message") or "cert-manager has said nothing about it yet").rstrip(".")
            see = f"kubectl -n {namespace} describe certificate {name}"
            waiting.append(f'Certificate "{name}" is not ready: {said}. See: {see}')
    return Condition(REFERENCES_RESOLVED, FALSE, "NotIssued", listed(waiting)) if waiting else None


def ready_condition(rollout: Rollout, last_good: str) -> Condition:
    """Ready: whether pods can take traffic. `last_good` says why they run an earlier configuration, empty if they do not."""
    if not rollout.exists:
        return Condition(READY, FALSE, "NotDeployed", f"nothing runs yet: {last_good or 'see Progressing'}")
    available = f"{rollout.available} of {rollout.desired} pods are available"
    if not rollout.serving:
        return Condition(READY, FALSE, "PodsNotReady", f"{available}: {last_good or 'see Progressing'}")
    if last_good:
        return Condition(READY, TRUE, "LastGoodConfig", f"pods run the last good configuration: {last_good}")
    return Condition(READY, TRUE, "PodsReady", available)


def _merged(known: Document | None, wanted: Condition, generation: int, now: datetime) -> Document:
    same = known is not None and known.get("status") == wanted.status
    time = known["lastTransitionTime"] if same and known is not None else timestamp(now)
    return {
        "type": wanted.type,
        "status": wanted.status,
        "reason": wanted.reason,
        "message": wanted.message,
        "observedGeneration": generation,
        "lastTransitionTime": time,
    }


def _has_moved(known: Document | None, wanted: Condition) -> bool:
    """Worth an event: another status or reason than before, or trouble from the beginning. Pods need their time."""
    if known is None:
        return wanted.status == FALSE and wanted.type != READY
    return (known.get("status"), known.get("reason")) != (wanted.status, wanted.reason)


def timestamp(moment: datetime) -> str:
    """A time as the API writes it: seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stalled(conditions: Iterable[Document]) -> str:
    for condition in conditions:
        if condition["type"] == "Progressing" and condition["status"] == FALSE:
            return str(condition.get("message", ""))
        if condition["type"] == "ReplicaFailure" and condition["status"] == TRUE:
            return str(condition.get("message", ""))
    return ""
