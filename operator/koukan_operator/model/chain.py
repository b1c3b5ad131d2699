"""The spec of an OutputChain."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from koukan.config.filters import FilterItem
from koukan.config.router import ChainConfig, OutputHandlerConfig, SenderConfig
from koukan_operator.model.base import ResourceModel, same
from koukan_operator.model.secrets import LocalRef
from koukan_operator.model.special import FORM


class OutputChainSpec(ResourceModel):
    """What the chain does."""

    router_refs: list[LocalRef] = Field(default=[], max_length=16)
    """Routers that the chain attaches itself to, as an HTTPRoute does to a Gateway."""
    senders: list[Annotated[SenderConfig, FORM]] = Field(default=[], max_length=16)
    """Senders, or with tags some tags of a sender, that the chain claims on those routers. Their outputChain is this one
    unless they name another. What is taken stays with the older claim."""
    msa: bool = same(ChainConfig, "msa")
    output_handler: Annotated[OutputHandlerConfig, FORM] = OutputHandlerConfig()
    """Retries, bounces, timeouts."""
    chain: Annotated[list[FilterItem], FORM] = Field(min_length=1, max_length=64)
    """Filters in order, the last one a sink: rest_output, or exploder for mail that comes in by SMTP."""

    @model_validator(mode="after")
    def _claims_somewhere(self) -> OutputChainSpec:
        if self.senders and not self.router_refs:
            raise ValueError("senders are claimed on routers; name these in routerRefs")
        return self
