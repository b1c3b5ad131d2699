"""A routing policy: every tenant's mail goes to an application of its own."""

from collections.abc import Mapping
from typing import Any

from koukan.chain.filter import Context
from koukan.chain.routing.policy import RoutingPolicy, make_route
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.routing import Destination
from koukan.model import Response


class Tenants(RoutingPolicy):
    def __init__(self, routes: Mapping[str, Route], moved: frozenset[str]) -> None:
        self._routes = routes
        self._moved = moved

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        domain = recipient.mailbox.domain or ""
        if domain in self._moved:
            return Response(551, "5.1.6 this tenant has moved away")
        return self._routes.get(domain)  # None: not ours, the next router may take the recipient


def factory(options: Mapping[str, Any], context: Context) -> RoutingPolicy:
    routes = {
        domain: make_route(Destination.model_validate(destination), context)
        for domain, destination in options["tenants"].items()
    }
    return Tenants(routes, frozenset(options.get("moved", ())))
