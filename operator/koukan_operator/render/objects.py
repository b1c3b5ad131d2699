"""What every manifest has: names, labels, the owner."""

from __future__ import annotations

from typing import Any

from koukan_operator.labels import labels_of, selector_of
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.resources import API_VERSION
from koukan_operator.render.rendered import Manifest

Workload_ = KoukanRouter | KoukanGateway

#: pods of this namespace that carry it may use the REST API of routers
CLIENT_LABEL = "koukan.io/client"


def manifest(
    resource: Workload_,
    api_version: str,
    kind: str,
    name: str,
    content: Manifest,
    annotations: dict[str, str] | None = None,
) -> Manifest:
    """An object that belongs to `resource`."""
    metadata: dict[str, Any] = {"name": name, "namespace": resource.metadata.namespace, "labels": labels_of(resource)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    # An offline plan has no owner yet.
    if resource.metadata.uid:
        metadata["ownerReferences"] = [owner(resource)]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def owner(resource: Workload_) -> dict[str, Any]:
    """The reference by which the object is collected together with the resource."""
    return {
        "apiVersion": API_VERSION,
        "kind": resource.KIND,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
    }


def selector_text(resource: Workload_) -> str:
    """The selector as `kubectl scale` and autoscalers read it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_of(resource).items()))
