"""What router.yaml and gateway.yaml have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.workload import Workload
from koukan_operator.peers import REST_PORT
from koukan_operator.render.findings import Findings
from koukan_operator.settings import OperatorSettings

Value = TypeVar("Value")

#: the pod's wildcard address in the family of its own, so that IPv6-only pods are reached
_ANY = "${POD_IP|any}"


def escaped(value: Value) -> Value:
    """Text of resources as it stands in a configuration file: a `${` that someone wrote is no variable."""
    plain: Any = value
    if isinstance(plain, str):
        plain = plain.replace("${", "$${")
    elif isinstance(plain, Mapping):
        plain = {key: escaped(item) for key, item in plain.items()}
    elif isinstance(plain, list):
        plain = [escaped(item) for item in plain]
    result: Value = plain
    return result


def url_part(name: str) -> str:
    """A sender's name as an element of a URL's path."""
    return quote(name, safe="")


def listen(port: int) -> list[Any]:
    """An address to listen on."""
    return [_ANY, port]


def admin_listener(spec: Workload) -> dict[str, Any]:
    return {"addr": listen(spec.admin_listener.port)}


def rest_listener(
    resource: KoukanRouter | KoukanGateway, secret: str | None, findings: Findings, settings: OperatorSettings
) -> dict[str, Any]:
    """The REST listener with its per-pod URL: one configuration serves all pods."""
    meta = resource.metadata
    if secret is None:
        return {"addr": listen(REST_PORT), "session_uri": f"http://${{POD_IP|host}}:{REST_PORT}"}
    # Certificates name hosts, so pods are reached below their headless Service.
    host = f"${{POD_IP|dashed}}.{meta.name}-pods.{meta.namespace}.svc.{settings.cluster_domain}"
    return {
        "addr": listen(REST_PORT),
        **certificate(secret, findings),
        "session_uri": f"https://{host}:{REST_PORT}",
    }


def certificate(secret: str, findings: Findings) -> dict[str, Any]:
    """cert and key of a listener."""
    return {"cert": findings.file(secret, "tls.crt"), "key": findings.file(secret, "tls.key")}
