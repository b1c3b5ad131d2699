"""hello: the sample routing policy of the existing Koukan. It takes no recipient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koukan.chain.filter import Context
from koukan.chain.routing.policy import RoutingPolicy
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.model import Response


class HelloPolicy(RoutingPolicy):
    """Never matches."""

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        return None


def factory(options: Mapping[str, Any], context: Context) -> RoutingPolicy:
    """The policy, whatever its options."""
    return HelloPolicy()
