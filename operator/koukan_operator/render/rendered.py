"""The answer of rendering: manifests, and what stands in their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from koukan_operator.references import ObjectRef

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MissingReference:
    """An object that the resource needs and that does not exist, or lacks a key: ReferencesResolved=False."""

    ref: ObjectRef
    #: where it is named: `spec.senders[0].outputChain`, or `OutputChain/news spec.chain[2].keySecretRef`
    path: str
    #: one sentence with the next step: `Secret "dkim" has no key "s1.pem"; add it or …`
    message: str


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """Something that a router or gateway would refuse to start with: ConfigValid=False."""

    #: as in MissingReference
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A chain that attaches itself to this router, with one sender or tag that it claims (or none): condition Accepted."""

    chain: str
    router: str
    accepted: bool
    #: CamelCase: Accepted, SenderTaken, InvalidChain
    reason: str
    message: str
    sender: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What should exist in the namespace of the resource, in the order in which to apply it."""

    #: server-side apply documents without status; each has ownerReferences (controller) and `labels_of(resource)`.
    #: Complete even when something is missing (the offline plan shows it), empty when the config is invalid.
    manifests: list[Manifest] = field(default_factory=list)
    missing: list[MissingReference] = field(default_factory=list)
    problems: list[ConfigProblem] = field(default_factory=list)
    #: worth an event or a line in the condition, no reason not to apply
    warnings: list[ConfigProblem] = field(default_factory=list)
    #: only for routers
    claims: list[Claim] = field(default_factory=list)
    #: names of the OutputChains that the config contains, sorted
    chains: tuple[str, ...] = ()
    #: label selector of the pods, for status.selector of the scale subresource: `a=b,c=d`
    selector: str = ""
    #: base URL of the REST service, for status
    service_uri: str = ""

    @property
    def applicable(self) -> bool:
        """Nothing stands in the way; otherwise the last good manifests stay as they are in the cluster."""
        return not self.missing and not self.problems
