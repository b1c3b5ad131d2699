"""Small custom resources for tests, as documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.commands import kubectl

Document = dict[str, Any]

ROOT = Path(__file__).parents[2]
#: no node has it: pods stay Pending on every cluster, and their status is the test's to say
NOWHERE = {"koukan.test/nowhere": "true"}


def resource(kind: str, name: str, spec: Document, namespace: str = "mail") -> Document:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "koukan.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def router(name: str = "mail", chains: tuple[str, ...] = (), namespace: str = "mail", **spec: Any) -> Document:
    """A router with a sender for each of `chains`, which is called as the chain is."""
    return resource(
        "KoukanRouter",
        name,
        {
            "database": {"urlSecretRef": {"name": "db", "key": "uri"}},
            "mailerDaemonMailbox": "mailer-daemon@example.com",
            "senders": [{"name": chain, "outputChain": chain} for chain in chains],
            "restEndpoints": [{"name": "out", "url": "https://out.example.com", "sender": "koukan"}],
            "podTemplate": {"spec": {"nodeSelector": NOWHERE}},
            **spec,
        },
        namespace,
    )


def gateway(name: str = "edge", namespace: str = "mail", **spec: Any) -> Document:
    """A gateway that hands all mail to router `mail`."""
    return resource(
        "KoukanGateway",
        name,
        {
            "listeners": [{"name": "mx", "port": 25, "routerRef": {"name": "mail"}, "sender": "submission"}],
            "podTemplate": {"spec": {"nodeSelector": NOWHERE}},
            **spec,
        },
        namespace,
    )


def chain(name: str, domain: str = "example.com", namespace: str = "mail", **spec: Any) -> Document:
    """A chain that sends mail for a domain on; `domain` shows in the configuration."""
    policy = {"name": "address_list", "domains": [domain], "destination": {"endpoint": "out"}}
    items = [{"filter": "router", "policy": policy}, {"filter": "rest_output"}]
    return resource("OutputChain", name, {"chain": items, **spec}, namespace)


def secret(name: str = "db", namespace: str = "mail", **values: str) -> Document:
    metadata = {"name": name, "namespace": namespace}
    data = values or {"uri": "postgresql://koukan:secret@db:5432/koukan"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def as_yaml(*documents: Document) -> str:
    return yaml.safe_dump_all(documents)


def apply_definitions() -> None:
    """Bring the definitions of the repository to the cluster."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for name in ("koukanrouters", "koukangateways", "outputchains"):
        kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}.koukan.io")
