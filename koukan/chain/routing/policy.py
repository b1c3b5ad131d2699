"""What a routing policy is: it says where one recipient goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from koukan.chain.filter import Context
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.router import RestEndpoint
from koukan.config.routing import Destination
from koukan.errors import ConfigError
from koukan.message.address import find_fault
from koukan.model import Response


class RoutingPolicy(Protocol):
    """Made once when the configuration is loaded; serves all transactions, concurrently."""

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        """Where the recipient goes, why it is rejected, or None: not this policy's, a later router may take it."""
        ...


#: what `modules.recipient_router_policy` names: options as they stand in the file, without `name`
PolicyFactory = Callable[[Mapping[str, Any], Context], RoutingPolicy]

#: the empty destination of dry_run, which leads nowhere
PLACEHOLDER = Route(RestEndpoint(name="placeholder"))


def make_route(destination: Destination, context: Context) -> Route:
    """The route to a configured destination. Raises ConfigError.

    The destination's options lie over the endpoint's, in a map of the route's own: no other route sees them.
    """
    if destination.endpoint is None:
        return PLACEHOLDER
    endpoint = context.endpoint(destination.endpoint)
    if endpoint is None:
        raise ConfigError(f"there is no rest_endpoint {destination.endpoint!r}")
    hosts = tuple(host.host_port for host in destination.host_list or ())
    return Route(endpoint, hosts, {**endpoint.options, **destination.options}, hosts_are_ours=bool(hosts))


def refuse(recipient: Recipient, unknown: Response) -> Response:
    """`unknown` for a mailbox that is not here; for what cannot be a mailbox anywhere, what is wrong with it."""
    fault = find_fault(recipient.mailbox.address)
    return unknown if fault is None else Response(553, f"5.1.3 {fault}")


class EveryRecipient(RoutingPolicy):
    """The static destination of a router without policy; without that either, nobody is here."""

    def __init__(self, answer: Route | Response) -> None:
        self._answer = answer

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        return refuse(recipient, self._answer) if isinstance(self._answer, Response) else self._answer
