"""What routers and gateways have in common: pods, TLS, scaling, monitoring."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from koukan.config.router import GlobalConfig
from koukan_operator.model.base import ResourceModel, same
from koukan_operator.model.secrets import LocalRef, ObjectName
from koukan_operator.model.values import Duration, Quantity

#: a host name in a certificate, possibly with a wildcard
DnsName = Annotated[str, Field(min_length=1, max_length=253)]
#: a fragment of a Kubernetes object that is passed on as it is
Fragment = dict[str, Any]
StringMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class Autoscaling(ResourceModel):
    """Replicas by load (HorizontalPodAutoscaler)."""

    min_replicas: int = Field(default=2, ge=1, le=1000)
    """Fewest replicas."""
    max_replicas: int = Field(ge=1, le=1000)
    """Most replicas."""
    target_cpu_utilization_percentage: int = Field(default=75, ge=1, le=1000, alias="targetCPUUtilizationPercentage")
    """CPU use, of what the pods request, that is aimed at."""

    @model_validator(mode="after")
    def _ordered(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not be greater than maxReplicas")
        return self


class IssuerRef(ResourceModel):
    """An issuer of cert-manager."""

    name: ObjectName
    """Name of the issuer."""
    kind: str = Field(default="Issuer", min_length=1, max_length=63)
    """Issuer, ClusterIssuer, or the kind of an external one."""
    group: str = Field(default="cert-manager.io", min_length=1, max_length=253)
    """API group of the issuer."""


class Tls(ResourceModel):
    """A certificate: from a Secret, or asked of cert-manager."""

    secret_name: ObjectName | None = None
    """Secret of type kubernetes.io/tls; its ca.crt, when there is one, is what clients within Koukan verify with."""
    issuer_ref: IssuerRef | None = None
    """Issuer of cert-manager that makes the certificate."""
    dns_names: list[DnsName] = Field(default=[], max_length=64)
    """With issuerRef: further names in the certificate."""

    @model_validator(mode="after")
    def _one_source(self) -> Tls:
        if (self.secret_name is None) == (self.issuer_ref is None):
            raise ValueError("give exactly one of secretName and issuerRef")
        if self.dns_names and self.issuer_ref is None:
            raise ValueError("dnsNames needs issuerRef; a Secret has its names already")
        return self


class PodMetadata(ResourceModel):
    """Labels and annotations of the pods."""

    labels: StringMap = {}
    """Further labels; those that select the pods cannot be changed."""
    annotations: StringMap = {}
    """Further annotations."""


class PodSpec(ResourceModel):
    """The usual pod fields, merged over ours where that is safe."""

    containers: list[Fragment] = Field(default=[], max_length=16)
    """The container `koukan` takes resources, env, envFrom and volumeMounts from here; others are sidecars."""
    init_containers: list[Fragment] = Field(default=[], max_length=16)
    """Init containers and native sidecars."""
    volumes: list[Fragment] = Field(default=[], max_length=32)
    """Further volumes."""
    node_selector: StringMap = {}
    """Labels that the node must have."""
    affinity: Fragment | None = None
    """Scheduling rules."""
    tolerations: list[Fragment] = Field(default=[], max_length=32)
    """Taints that are tolerated."""
    topology_spread_constraints: list[Fragment] | None = Field(default=None, max_length=16)
    """In place of ours, which spread over hosts and zones where possible."""
    priority_class_name: str | None = Field(default=None, max_length=253)
    """PriorityClass of the pods."""
    runtime_class_name: str | None = Field(default=None, max_length=253)
    """RuntimeClass of the pods."""
    scheduler_name: str | None = Field(default=None, max_length=253)
    """Scheduler of the pods."""
    host_aliases: list[Fragment] = Field(default=[], max_length=64)
    """Further entries of /etc/hosts."""
    dns_policy: Literal["ClusterFirst", "Default", "None"] | None = None
    """How the pods resolve names."""
    dns_config: Fragment | None = None
    """Further resolver settings."""


class PodTemplate(ResourceModel):
    """What is added to the pods."""

    metadata: PodMetadata = PodMetadata()
    """Labels and annotations."""
    spec: PodSpec = PodSpec()
    """Pod fields."""


class AdminListener(ResourceModel):
    """Metrics for Prometheus, apart from where clients come in."""

    port: int = Field(default=9090, ge=1024, le=65535)
    """Port in the pod; serves /metrics, /healthz and /readyz."""


class Monitoring(ResourceModel):
    """How Prometheus finds the pods."""

    pod_monitor: bool = True
    """Make a PodMonitor where the cluster knows the kind."""
    service_monitor: bool = False
    """Make a ServiceMonitor in its place, for a Prometheus that reads no PodMonitors."""
    interval: Duration = Field(default=30, gt=0)
    """Time between scrapes."""
    labels: StringMap = {}
    """Labels of the monitor, which many Prometheus objects select by."""


class NetworkPolicy(ResourceModel):
    """Who may connect to the pods."""

    enabled: bool = True
    """Make a NetworkPolicy."""
    clients: list[Fragment] = Field(default=[], max_length=64)
    """Peers (as in a NetworkPolicy's `from`) that may use the REST API, besides Koukan's own pods in this namespace and
    pods with the label koukan.io/client: "true"."""


class Spool(ResourceModel):
    """Where bodies that are in progress are buffered; nothing in it outlives a pod."""

    size_limit: Quantity = 2 * 1024**3
    """Most that it may hold."""


class Workload(ResourceModel):
    """A Deployment and what surrounds it."""

    replicas: int | None = Field(default=None, ge=0, le=1000)
    """Pods; default: 1. An autoscaler that uses this resource's scale subresource needs a number to start with."""
    autoscaling: Autoscaling | None = None
    """Replicas by load, in place of replicas."""
    image: str | None = Field(default=None, min_length=1, max_length=512)
    """Image; default: the operator's own version."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled; default: the operator's setting."""
    image_pull_secrets: list[LocalRef] = Field(default=[], max_length=16)
    """Secrets to pull the image with."""
    drain_timeout: Duration = same(GlobalConfig, "drain_timeout")
    tls: Tls | None = None
    """REST over TLS."""
    admin_listener: AdminListener = AdminListener()
    """Metrics."""
    monitoring: Monitoring = Monitoring()
    """How Prometheus finds the pods."""
    network_policy: NetworkPolicy = NetworkPolicy()
    """Who may connect to the pods."""
    spool: Spool = Spool()
    """Where bodies are buffered."""
    service_annotations: StringMap = {}
    """Annotations of the REST Service."""
    logging: Fragment | None = None
    """logging.config.dictConfig document."""
    pod_template: PodTemplate = PodTemplate()
    """What is added to the pods."""

    @model_validator(mode="after")
    def _scaled_once(self) -> Workload:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("give replicas or autoscaling, not both")
        return self
