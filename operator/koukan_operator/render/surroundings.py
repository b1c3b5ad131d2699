"""What stands around the Deployment: accounts, budgets, policies, scaling, monitoring, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from koukan_operator.labels import selector_of
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.workload import Tls
from koukan_operator.peers import REST_PORT, certificate_name, listener_certificate_name, rest_service
from koukan_operator.render.findings import Findings
from koukan_operator.render.objects import CLIENT_LABEL, Workload_, manifest
from koukan_operator.render.rendered import Manifest
from koukan_operator.settings import CERT_MANAGER_API, MONITORING_API, OperatorSettings


def service_account(resource: Workload_) -> Manifest:
    """An account of their own, without any right and without a token in the pods."""
    content = {"automountServiceAccountToken": False}
    return manifest(resource, "v1", "ServiceAccount", resource.metadata.name, content)


def rest_services(resource: Workload_) -> Iterator[Manifest]:
    """The Service that takes REST, and the headless one that gives every pod a name."""
    name, labels = resource.metadata.name, selector_of(resource)
    ports = [{"name": "rest", "port": REST_PORT, "targetPort": "rest", "protocol": "TCP"}]
    service = {"type": "ClusterIP", "selector": labels, "ports": ports}
    yield manifest(
        resource,
        "v1",
        "Service",
        rest_service(resource.KIND, name),
        {"spec": service},
        annotations=resource.spec.service_annotations,
    )
    # A draining pod still answers for its transactions, so its name stays.
    every = [*ports, _admin_port(resource)] if resource.spec.monitoring.service_monitor else ports
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels, "ports": every}
    yield manifest(resource, "v1", "Service", f"{name}-pods", {"spec": headless})


def _admin_port(resource: Workload_) -> Manifest:
    return {"name": "admin", "port": resource.spec.admin_listener.port, "targetPort": "admin", "protocol": "TCP"}


def disruption_budget(resource: Workload_) -> Manifest:
    """One pod at a time may be evicted; one that is not ready anyway always."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector_of(resource)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return manifest(resource, "policy/v1", "PodDisruptionBudget", resource.metadata.name, {"spec": spec})


def network_policy(resource: Workload_, smtp_ports: list[int]) -> Iterator[Manifest]:
    """Who may come in: Koukan's own pods and REST clients, SMTP from everywhere, Prometheus from within the cluster."""
    policy = resource.spec.network_policy
    if not policy.enabled:
        return
    rules: list[Manifest] = [
        {"from": [*_peers(resource), *policy.clients], "ports": _ports(REST_PORT)},
        {"from": [{"namespaceSelector": {}}], "ports": _ports(resource.spec.admin_listener.port)},
    ]
    if smtp_ports:
        rules.append({"ports": _ports(*smtp_ports)})
    spec = {"podSelector": {"matchLabels": selector_of(resource)}, "policyTypes": ["Ingress"], "ingress": rules}
    yield manifest(resource, "networking.k8s.io/v1", "NetworkPolicy", resource.metadata.name, {"spec": spec})


def _peers(resource: Workload_) -> list[Manifest]:
    selectors: list[dict[str, str]] = [{"app.kubernetes.io/name": "koukan-router"}]
    if isinstance(resource, KoukanRouter):
        selectors += [{"app.kubernetes.io/name": "koukan-gateway"}, {CLIENT_LABEL: "true"}]
    return [{"podSelector": {"matchLabels": labels}} for labels in selectors]


def _ports(*ports: int) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in sorted(set(ports))]


def autoscaler(resource: Workload_) -> Iterator[Manifest]:
    """Replicas by CPU."""
    scaling, name = resource.spec.autoscaling, resource.metadata.name
    if scaling is None:
        return
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_utilization_percentage}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    yield manifest(resource, "autoscaling/v2", "HorizontalPodAutoscaler", name, {"spec": spec})


def monitor(resource: Workload_, settings: OperatorSettings) -> Iterator[Manifest]:
    """How the Prometheus operator finds the pods, where it is installed."""
    monitoring = resource.spec.monitoring
    if MONITORING_API not in settings.available_apis or not (monitoring.pod_monitor or monitoring.service_monitor):
        return
    interval = monitoring.model_dump(mode="json", include={"interval"})["interval"]
    kind, endpoints = "PodMonitor", "podMetricsEndpoints"
    if monitoring.service_monitor:
        kind, endpoints = "ServiceMonitor", "endpoints"
    spec = {
        "selector": {"matchLabels": selector_of(resource)},
        endpoints: [{"port": "admin", "path": "/metrics", "interval": interval}],
    }
    made = manifest(resource, MONITORING_API, kind, resource.metadata.name, {"spec": spec})
    made["metadata"]["labels"] = {**monitoring.labels, **made["metadata"]["labels"]}
    yield made


def certificates(resource: Workload_, findings: Findings, settings: OperatorSettings) -> Iterator[Manifest]:
    """What cert-manager is asked for."""
    name, spec = resource.metadata.name, resource.spec
    wanted: list[tuple[str, str, Tls, list[str]]] = []
    if spec.tls is not None and spec.tls.issuer_ref is not None:
        wanted.append(("spec.tls", certificate_name(name), spec.tls, _rest_names(resource, settings)))
    if isinstance(resource, KoukanGateway):
        for index, listener in enumerate(resource.spec.listeners):
            if listener.tls is not None and listener.tls.issuer_ref is not None:
                path = f"spec.listeners[{index}].tls"
                if not listener.tls.dns_names:
                    findings.problem(f"{path}.dnsNames", "with issuerRef, name the hosts that clients connect to")
                wanted.append((path, listener_certificate_name(name, listener.name), listener.tls, []))
    for path, secret, tls, names in wanted:
        if CERT_MANAGER_API not in settings.available_apis:
            message = "the cluster has no cert-manager; install it, or give secretName"
            findings.problem(f"{path}.issuerRef", message)
        yield _certificate(resource, secret, tls, [*names, *tls.dns_names])


def _certificate(resource: Workload_, name: str, tls: Tls, names: list[str]) -> Manifest:
    assert tls.issuer_ref is not None, "the caller has seen to it"
    issuer = {"name": tls.issuer_ref.name, "kind": tls.issuer_ref.kind, "group": tls.issuer_ref.group}
    spec: dict[str, Any] = {
        "secretName": name,
        "dnsNames": names,
        "issuerRef": issuer,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "key encipherment", "server auth"],
    }
    return manifest(resource, CERT_MANAGER_API, "Certificate", name, {"spec": spec})


def _rest_names(resource: Workload_, settings: OperatorSettings) -> list[str]:
    """The Service, and the pods below the headless one."""
    meta = resource.metadata
    service, zone = rest_service(resource.KIND, meta.name), f"{meta.namespace}.svc"
    return [
        f"{service}.{zone}.{settings.cluster_domain}",
        f"{service}.{zone}",
        f"*.{meta.name}-pods.{zone}.{settings.cluster_domain}",
    ]
