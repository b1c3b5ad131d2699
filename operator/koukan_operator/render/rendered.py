"""The answer of rendering: manifests, and what stands in their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from koukan_operator.references import ObjectRef

Manifest = dict[str, Any]

#: every kind that rendering may produce, as (apiVersion, kind): what pruning looks through. The last two exist only where
#: OperatorSettings.available_apis has their API.
OWNED_KINDS: tuple[tuple[str, str], ...] = (
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("cert-manager.io/v1", "Certificate"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
)


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
    #: also annotation koukan.io/config-hash on the pod template
    config_hash: str = ""
    #: also annotation koukan.io/secrets-hash on the pod template
    secrets_hash: str = ""
    #: label selector of the pods, for status.selector of the scale subresource: `a=b,c=d`
    selector: str = ""
    #: the Deployment's name; its readiness is the resource's
    deployment: str = ""
    #: base URL of the REST service, for status
    service_uri: str = ""

    @property
    def applicable(self) -> bool:
        """Nothing stands in the way; otherwise the last good manifests stay as they are in the cluster."""
        return not self.missing and not self.problems
