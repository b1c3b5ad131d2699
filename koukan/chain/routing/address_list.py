"""address_list: recipients in a list of domains and local parts go to one destination, or are rejected."""

from __future__ import annotations

from koukan.chain.addresses import AddressSet
from koukan.chain.filter import Context
from koukan.chain.routing.policy import RoutingPolicy, make_route
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config import routing
from koukan.message.address import Address, read_recipient
from koukan.model import Response

_UNKNOWN = Response(550, "5.1.1 mailbox does not exist (AddressListPolicy)")


class AddressListPolicy(RoutingPolicy):
    """What is no address is in no list. `Postmaster` without a domain is that of the first list that leads somewhere: every
    server has to take it (RFC 5321 §4.5.1), and it is the postmaster of any domain it has."""

    def __init__(self, addresses: AddressSet, answer: Route | Response) -> None:
        self._addresses = addresses
        self._answer = answer

    async def route(self, tx: Transaction, recipient: Recipient) -> Route | Response | None:
        address = read_recipient(recipient.mailbox.address)
        return self._answer if address is not None and self._has(address) else None

    def _has(self, address: Address) -> bool:
        if not address.domain and isinstance(self._answer, Route):
            return self._addresses.has_local(address.local)
        return address in self._addresses


def build(options: routing.AddressListPolicy, context: Context) -> RoutingPolicy:
    """The policy as configured. Raises ConfigError."""
    answer = _UNKNOWN if options.destination is None else make_route(options.destination, context)
    return AddressListPolicy(AddressSet.of(options.domains, options.prefixes, options.delimiter), answer)
