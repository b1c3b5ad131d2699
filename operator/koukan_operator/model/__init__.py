"""The three custom resources as types; they reuse the models of koukan.config, so that the same rules hold."""

from __future__ import annotations

from koukan_operator.model.resources import KoukanGateway, KoukanRouter, Metadata, OutputChain

__all__ = ["KoukanGateway", "KoukanRouter", "Metadata", "OutputChain"]
