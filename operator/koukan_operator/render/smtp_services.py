"""Services of a gateway's SMTP listeners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from koukan.config.loader import suggest
from koukan_operator.labels import selector_of
from koukan_operator.model import KoukanGateway
from koukan_operator.model.gateway import Listener, SmtpService
from koukan_operator.peers import REST_PORT
from koukan_operator.render.findings import Findings
from koukan_operator.render.objects import manifest
from koukan_operator.render.rendered import Manifest


def smtp_services(gateway: KoukanGateway, findings: Findings) -> Iterator[Manifest]:
    """The main Service, and one for each group that has listeners of its own."""
    _check_listeners(gateway, findings)
    listeners = {listener.name: listener for listener in gateway.spec.listeners}
    taken: set[str] = set()
    groups: list[tuple[str, SmtpService, list[Listener]]] = []
    for index, group in enumerate(gateway.spec.services):
        path = f"spec.services[{index}]"
        for position, name in enumerate(group.listeners):
            _check_member(name, taken, listeners, f"{path}.listeners[{position}]", findings)
        taken.update(group.listeners)
        if group.name in ("rest", "pods") or group.name in [g.name for g in gateway.spec.services[:index]]:
            findings.problem(f"{path}.name", f"{group.name!r} is in use; choose another name")
        members = [listeners[name] for name in group.listeners if name in listeners]
        groups.append((f"{gateway.metadata.name}-{group.name}", group, members))
    rest = [listener for listener in gateway.spec.listeners if listener.name not in taken]
    for name, service, members in [(gateway.metadata.name, gateway.spec.service, rest), *groups]:
        if members:
            yield _service(gateway, name, service, members)


def container_ports(gateway: KoukanGateway) -> list[Manifest]:
    """Ports of the pod that SMTP comes in at."""
    return [
        {"name": listener.name, "containerPort": listener.target_port, "protocol": "TCP"}
        for listener in gateway.spec.listeners
    ]


def _service(gateway: KoukanGateway, name: str, service: SmtpService, listeners: Sequence[Listener]) -> Manifest:
    spec: dict[str, Any] = {
        "type": service.type,
        "selector": selector_of(gateway),
        "ports": [_port(listener, service) for listener in listeners],
    }
    if service.type != "ClusterIP":
        spec["externalTrafficPolicy"] = service.external_traffic_policy
    if service.load_balancer_class is not None:
        spec["loadBalancerClass"] = service.load_balancer_class
    if service.load_balancer_source_ranges:
        spec["loadBalancerSourceRanges"] = service.load_balancer_source_ranges
    return manifest(gateway, "v1", "Service", name, {"spec": spec}, annotations=service.annotations)


def _port(listener: Listener, service: SmtpService) -> Manifest:
    port: Manifest = {"name": listener.name, "port": listener.port, "targetPort": listener.name, "protocol": "TCP"}
    if listener.node_port is not None and service.type != "ClusterIP":
        port["nodePort"] = listener.node_port
    return port


def _check_listeners(gateway: KoukanGateway, findings: Findings) -> None:
    ports = {REST_PORT: "the REST listener", gateway.spec.admin_listener.port: "adminListener"}
    names: set[str] = {"rest", "admin"}
    for index, listener in enumerate(gateway.spec.listeners):
        path = f"spec.listeners[{index}]"
        if listener.name in names:
            findings.problem(f"{path}.name", f"{listener.name!r} is in use; names must be unique")
        names.add(listener.name)
        if listener.target_port in ports:
            holder = ports[listener.target_port]
            findings.problem(f"{path}.port", f"port {listener.target_port} of the pod is taken by {holder}")
        ports[listener.target_port] = f"listener {listener.name!r}"


def _check_member(name: str, taken: set[str], listeners: dict[str, Listener], path: str, findings: Findings) -> None:
    if name not in listeners:
        hint = suggest(name, listeners) or f"; there are: {', '.join(listeners) or 'none'}"
        findings.problem(path, f"there is no listener {name!r}{hint}")
    elif name in taken:
        findings.problem(path, f"listener {name!r} has a Service already")
