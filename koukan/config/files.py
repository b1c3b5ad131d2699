"""router.yaml and gateway.yaml, loaded and checked."""

from __future__ import annotations

from collections.abc import Mapping

from koukan.config.gateway import GatewayConfig, check_gateway
from koukan.config.loader import Loaded, load, read_document
from koukan.config.references import check_router
from koukan.config.router import RouterConfig
from koukan.errors import ConfigError

#: stanzas that only one of the two files has
_ROUTER_STANZAS = frozenset({"storage", "sender", "endpoint", "rest_endpoint", "modules"})
_GATEWAY_STANZAS = frozenset({"smtp_listener", "smtp_output", "rest_output"})


def load_router(path: str, environment: Mapping[str, str] | None = None) -> Loaded[RouterConfig]:
    """A router's configuration. Raises ConfigError."""
    _refuse_the_other(path, environment, "router.yaml", _ROUTER_STANZAS, "gateway.yaml", _GATEWAY_STANZAS)
    return load(path, RouterConfig, check_router, environment)


def load_gateway(path: str, environment: Mapping[str, str] | None = None) -> Loaded[GatewayConfig]:
    """A gateway's configuration. Raises ConfigError."""
    _refuse_the_other(path, environment, "gateway.yaml", _GATEWAY_STANZAS, "router.yaml", _ROUTER_STANZAS)
    return load(path, GatewayConfig, check_gateway, environment)


def load_any(path: str, environment: Mapping[str, str] | None = None) -> Loaded[RouterConfig] | Loaded[GatewayConfig]:
    """Whichever of the two the file is, by its stanzas. Raises ConfigError."""
    keys = read_document(path, environment).data.keys()
    if keys & _GATEWAY_STANZAS:
        return load_gateway(path, environment)
    if keys & _ROUTER_STANZAS:
        return load_router(path, environment)
    raise ConfigError(
        f"{path}: is neither router.yaml ({', '.join(sorted(_ROUTER_STANZAS))}) nor gateway.yaml "
        f"({', '.join(sorted(_GATEWAY_STANZAS))})"
    )


def _refuse_the_other(
    path: str,
    environment: Mapping[str, str] | None,
    wanted: str,
    own: frozenset[str],
    other: str,
    others: frozenset[str],
) -> None:
    """Raises ConfigError for the other program's file: a gateway with a router's would start and do nothing."""
    keys = read_document(path, environment).data.keys()
    if keys & others and not keys & own:
        found = ", ".join(sorted(keys & others))
        raise ConfigError(f"{path}: must be a {wanted}, but this is a {other}: it has {found}")
