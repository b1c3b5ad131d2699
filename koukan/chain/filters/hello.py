"""hello: the sample filter of the existing Koukan. Its sample configuration names it; it does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koukan.chain.filter import Context, Filter
from koukan.config import filters


def build(options: filters.Hello, context: Context) -> Filter | None:
    """Nothing to put into the chain."""
    return None


def factory(options: Mapping[str, Any], context: Context) -> Filter | None:
    """The same as a plug-in, under whatever name `modules` gives it."""
    return None
