"""address_list: recipients in a list of domains and local parts go to one destination, or are rejected."""

from __future__ import annotations

from koukan.chain.addresses import AddressSet
from koukan.chain.filter import Context
from koukan.chain.routing.policy import RoutingPolicy, make_route
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config import routing
from koukan.message.address import parse_address
from koukan.model import Response

_UNKNOWN = Response(550, "5.1.1 mailbox does not exist (AddressListPolicy)")


class AddressListPolicy(RoutingPolicy):
    """What is no valid address is in no list."""

    def __init__(self, addresses: AddressSet, answer: Route | Response) -> None:
        self._addresses = addresses
        self._answer = answer

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        address = parse_address(recipient.mailbox.address)
        return self._answer if address is not None and address in self._addresses else None


def build(options: routing.AddressListPolicy, context: Context) -> RoutingPolicy:
    """The policy as configured. Raises ConfigError."""
    answer = _UNKNOWN if options.destination is None else make_route(options.destination, context)
    return AddressListPolicy(AddressSet.of(options.domains, options.prefixes, options.delimiter), answer)
