"""Resources to manifests: pure functions without I/O or clock, the same answer for the same input."""

from __future__ import annotations

from koukan_operator.render.rendered import Claim, ConfigProblem, MissingReference, Rendered

__all__ = ["Claim", "ConfigProblem", "MissingReference", "Rendered", "render_gateway", "render_router"]

from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.references import Refs
from koukan_operator.settings import OperatorSettings


def render_router(router: KoukanRouter, refs: Refs, settings: OperatorSettings) -> Rendered:
    """Everything that makes the router run. What is missing or wrong is in the answer, never an exception."""
    raise NotImplementedError


def render_gateway(gateway: KoukanGateway, refs: Refs, settings: OperatorSettings) -> Rendered:
    """Everything that makes the gateway run. What is missing or wrong is in the answer, never an exception."""
    raise NotImplementedError
