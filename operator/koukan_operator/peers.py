"""What other routers and gateways of the namespace look like from outside, by their documents.

A peer whose resource is not valid at the moment still runs with its last good configuration: only what is needed is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koukan_operator.model import KoukanRouter

REST_PORT = 8000


def rest_service(kind: str, name: str) -> str:
    """Name of the Service that takes REST. A gateway's own name is its SMTP Service."""
    return name if kind == KoukanRouter.KIND else f"{name}-rest"


def rest_url(kind: str, document: Mapping[str, Any], cluster_domain: str) -> str:
    """Base URL of a router's or gateway's REST Service."""
    name, namespace = document["metadata"]["name"], document["metadata"].get("namespace", "default")
    scheme = "https" if tls_secret(document) is not None else "http"
    return f"{scheme}://{rest_service(kind, name)}.{namespace}.svc.{cluster_domain}:{REST_PORT}"


def tls_secret(document: Mapping[str, Any]) -> str | None:
    """The Secret with the certificate of its REST listener; None without TLS."""
    tls = (document.get("spec") or {}).get("tls")
    return None if not tls else tls.get("secretName") or certificate_name(document["metadata"]["name"])


def certificate_name(name: str) -> str:
    """Secret, and Certificate, of a REST listener whose certificate comes from cert-manager."""
    return f"{name}-tls"


def listener_certificate_name(gateway: str, listener: str) -> str:
    """The same for an SMTP listener."""
    return f"{gateway}-{listener}-tls"


def smtp_host_names(document: Mapping[str, Any]) -> list[str]:
    """The tags that lead out of a gateway."""
    hosts = ((document.get("spec") or {}).get("smtpOutput") or {}).get("hosts") or []
    return [str(host.get("name")) for host in hosts]
