"""What rendering has to know besides the resources: set once when the operator starts."""

from __future__ import annotations

from dataclasses import dataclass

#: APIs that add to what is rendered when the cluster has them
MONITORING_API = "monitoring.coreos.com/v1"
CERT_MANAGER_API = "cert-manager.io/v1"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of this operator, the same for every resource."""

    image: str
    """Image of routers and gateways whose resource names none."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    available_apis: frozenset[str] = frozenset()
    """Group/versions that the API server serves; MONITORING_API and CERT_MANAGER_API matter."""
