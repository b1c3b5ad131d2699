"""dest_domain: every recipient goes to the hosts of its own domain, by way of one endpoint."""

from __future__ import annotations

from koukan.chain.addresses import canonical_domain
from koukan.chain.filter import Context
from koukan.chain.routing.policy import RoutingPolicy, make_route
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config import routing
from koukan.message.address import read_address
from koukan.model import HostPort, Response


class DestDomainPolicy(RoutingPolicy):
    """The host is the domain, as an A-label name, or the address of an address literal (RFC 5321 §4.1.3)."""

    def __init__(self, destination: Route, port: int) -> None:
        self._destination = destination
        self._port = port

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        address = read_address(recipient.mailbox.address)
        if address is None:
            return None
        host = canonical_domain(address.domain) if address.literal is None else str(address.literal)
        if not host.isascii():
            return None  # no name that DNS could have
        return Route(self._destination.endpoint, (HostPort(host, self._port),), self._destination.options)


def build(options: routing.DestDomainPolicy, context: Context) -> RoutingPolicy:
    """The policy as configured. Raises ConfigError."""
    return DestDomainPolicy(make_route(options.destination, context), options.dest_port)
