"""Names, labels and annotations that the operator puts on what it makes."""

from __future__ import annotations

from koukan_operator.model import KoukanGateway, KoukanRouter

FIELD_MANAGER = "koukan-operator"
CONFIG_HASH = "koukan.io/config-hash"
SECRETS_HASH = "koukan.io/secrets-hash"
PAUSE = "koukan.io/pause"


def labels_of(resource: KoukanRouter | KoukanGateway) -> dict[str, str]:
    """Labels of everything that belongs to the resource; pruning selects by all of them."""
    return {
        **selector_of(resource),
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": "koukan",
    }


def selector_of(resource: KoukanRouter | KoukanGateway) -> dict[str, str]:
    """Labels that select the resource's pods; a Deployment's selector can never change, so this cannot either."""
    component = "router" if isinstance(resource, KoukanRouter) else "gateway"
    return {"app.kubernetes.io/name": f"koukan-{component}", "app.kubernetes.io/instance": resource.metadata.name}
