"""Resources to manifests: pure functions without I/O or clock, the same answer for the same input."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import yaml

from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.workload import Tls
from koukan_operator.peers import rest_url
from koukan_operator.references import Document, Refs
from koukan_operator.render.attachment import Attachment
from koukan_operator.render.deployment import config_name, deployment, program
from koukan_operator.render.findings import Findings
from koukan_operator.render.gateway_config import gateway_document
from koukan_operator.render.objects import Workload_, manifest, selector_text
from koukan_operator.render.rendered import Claim, ConfigProblem, Manifest, MissingReference, Rendered
from koukan_operator.render.router_config import router_document
from koukan_operator.render.smtp_services import container_ports, smtp_services
from koukan_operator.render.surroundings import (
    autoscaler,
    certificates,
    disruption_budget,
    monitor,
    network_policy,
    rest_services,
    service_account,
)
from koukan_operator.settings import OperatorSettings

__all__ = [
    "Claim",
    "ConfigProblem",
    "MissingReference",
    "Rendered",
    "render_gateway",
    "render_router",
]

#: bytes of a configuration that a ConfigMap takes: etcd's limit of 1 MiB, with room for the rest of the object
_MAX_CONFIG = 1_000_000


def render_router(router: KoukanRouter, refs: Refs, settings: OperatorSettings) -> Rendered:
    """Everything that makes the router run. What is missing or wrong is in the answer, never an exception."""
    findings = Findings(refs)
    attachment = Attachment(router, findings)
    own = _as_document(router)
    document = router_document(router, own, attachment, findings, settings)
    _need_certificate(router.spec.tls, "spec.tls", findings)
    uri = rest_url(KoukanRouter.KIND, own, settings.cluster_domain)
    rendered = _rendered(router, document, [], findings, settings)
    return replace(rendered, chains=tuple(attachment.chains), service_uri=uri)


def render_gateway(gateway: KoukanGateway, refs: Refs, settings: OperatorSettings) -> Rendered:
    """Everything that makes the gateway run. What is missing or wrong is in the answer, never an exception."""
    findings = Findings(refs)
    own = _as_document(gateway)
    document = gateway_document(gateway, findings, settings)
    _need_certificate(gateway.spec.tls, "spec.tls", findings)
    for index, listener in enumerate(gateway.spec.listeners):
        _need_certificate(listener.tls, f"spec.listeners[{index}].tls", findings)
    services = list(smtp_services(gateway, findings))
    uri = rest_url(KoukanGateway.KIND, own, settings.cluster_domain)
    return replace(_rendered(gateway, document, services, findings, settings), service_uri=uri)


def _need_certificate(tls: Tls | None, path: str, findings: Findings) -> None:
    # One that cert-manager makes comes after the Certificate is applied; pods wait for it.
    if tls is not None and tls.secret_name is not None:
        findings.need_keys(tls.secret_name, ("tls.crt", "tls.key"), f"{path}.secretName")


def _rendered(
    resource: Workload_,
    document: dict[str, Any],
    services: list[Manifest],
    findings: Findings,
    settings: OperatorSettings,
) -> Rendered:
    text = _config_text(resource, document)
    if len(text.encode()) > _MAX_CONFIG:
        findings.problem(
            "spec", f"the configuration has more than {_MAX_CONFIG} bytes; split it over several resources"
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    smtp = container_ports(resource) if isinstance(resource, KoukanGateway) else []
    config = {"data": {f"{program(resource)}.yaml": text}}
    manifests = [
        service_account(resource),
        *certificates(resource, findings, settings),
        manifest(resource, "v1", "ConfigMap", config_name(resource), config),
        *rest_services(resource),
        *services,
        *network_policy(resource, [port["containerPort"] for port in smtp]),
        disruption_budget(resource),
        deployment(resource, smtp, digest, findings, settings),
        *autoscaler(resource),
        *monitor(resource, settings),
    ]
    return Rendered(
        manifests=[] if findings.problems else manifests,
        missing=findings.missing,
        problems=findings.problems,
        warnings=findings.warnings,
        claims=findings.claims,
        selector=selector_text(resource),
    )


def _config_text(resource: Workload_, document: dict[str, Any]) -> str:
    head = f"# Made by koukan-operator from {resource.KIND} {resource.metadata.name}; changes here do not last.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _as_document(resource: Workload_) -> Document:
    tls = resource.spec.tls
    return {
        "metadata": {"name": resource.metadata.name, "namespace": resource.metadata.namespace},
        "spec": {"tls": None if tls is None else {"secretName": tls.secret_name}},
    }
