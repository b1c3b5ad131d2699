"""The kinds of objects that the operator reads and writes, and how the API server names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from koukan_operator.labels import FIELD_MANAGER
from koukan_operator.model.resources import API_VERSION

#: an object of the API as JSON gives it
Document = dict[str, Any]
#: named, since ports have a method `list`
Documents = list[Document]

#: on everything that we made; watches and lists of owned kinds ask for nothing else
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
OWNED_SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
#: objects per page of a list, so that neither side holds a whole cluster in one answer
PAGE = 100
#: releases of Helm can be megabytes each, and no resource refers to one
SECRET_SELECTOR = "type!=helm.sh/release.v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, all of them namespaced."""

    name: str
    api_version: str
    plural: str

    @property
    def group(self) -> str:
        """`apps` of `apps/v1`, empty for the core group."""
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of an object or a list; `namespace` None means all of them."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root, f"namespaces/{namespace}" if namespace else "", self.plural, name or "", subresource or ""]
        return "/".join(part for part in parts if part)


class Key(NamedTuple):
    """One object: `kind` is the name of a kind."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


ROUTER = Kind("KoukanRouter", API_VERSION, "koukanrouters")
GATEWAY = Kind("KoukanGateway", API_VERSION, "koukangateways")
CHAIN = Kind("OutputChain", API_VERSION, "outputchains")
#: what people write
RESOURCES = (ROUTER, GATEWAY, CHAIN)

SECRET = Kind("Secret", "v1", "secrets")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
SERVICE = Kind("Service", "v1", "services")
SERVICE_ACCOUNT = Kind("ServiceAccount", "v1", "serviceaccounts")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
POD_DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers")
CERTIFICATE = Kind("Certificate", "cert-manager.io/v1", "certificates")
POD_MONITOR = Kind("PodMonitor", "monitoring.coreos.com/v1", "podmonitors")
SERVICE_MONITOR = Kind("ServiceMonitor", "monitoring.coreos.com/v1", "servicemonitors")
#: what we make of them, in every cluster
OWNED = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    DEPLOYMENT,
    AUTOSCALER,
)
#: and where their API is served
OPTIONAL = (CERTIFICATE, POD_MONITOR, SERVICE_MONITOR)

LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
EVENT = Kind("Event", "v1", "events")

KINDS = {kind.name: kind for kind in (*RESOURCES, SECRET, *OWNED, *OPTIONAL, LEASE, EVENT)}


def key_of(document: Document) -> Key:
    """The key of an object that has a namespace."""
    metadata = document["metadata"]
    return Key(document["kind"], metadata["namespace"], metadata["name"])


def controller_of(document: Document) -> Document | None:
    """The owner reference of the controller, if there is one."""
    for reference in document["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Document = reference
            return found
    return None
