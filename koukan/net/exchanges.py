"""Where the mail of a domain goes: its mail exchangers and their addresses (RFC 5321 §5.1, RFC 7505)."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from koukan.message.address import ascii_domain
from koukan.net.dns import Answer, IpAddress, Mx, Resolver, Status
from koukan.net.private import is_private

#: exchangers of one domain that are looked up; nobody who is reachable needs more (Postfix tries 5 addresses)
MAX_EXCHANGERS = 10
#: addresses of one domain in all
MAX_ADDRESSES = 20


class Reason(enum.Enum):
    """Why mail cannot be sent to a domain."""

    NO_DOMAIN = "the domain does not exist"
    NULL_MX = "the domain takes no mail"
    LOOP = "mail for the domain would come back to us"
    PRIVATE = "the domain leads to addresses that are not public"
    NO_ADDRESS = "no mail server of the domain has an address"
    DNS_TROUBLE = "DNS cannot say now"

    @property
    def temporary(self) -> bool:
        """Missing addresses count as temporary: they are what a zone under repair looks like."""
        return self in (Reason.NO_ADDRESS, Reason.DNS_TROUBLE)


@dataclass(frozen=True, slots=True)
class Ourselves:
    """What we are known as: lower-cased names in A-labels without trailing dots, and addresses."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[IpAddress] = frozenset()

    def has(self, exchange: str, addresses: Collection[IpAddress]) -> bool:
        return exchange.lower() in self.names or not self.addresses.isdisjoint(addresses)


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Addresses in the order in which to try them, or the reason why there are none."""

    addresses: tuple[IpAddress, ...] = ()
    reason: Reason | None = None


async def find_exchanges(
    resolver: Resolver, domain: str, *, ourselves: Ourselves, allow_private: bool, rng: random.Random
) -> Exchanges:
    """The mail servers of `domain`, best preference first, equal ones in random order, IPv4 before IPv6 for each.

    A domain without MX records is its own exchanger. If we are one of them, the mail must have passed those that are no
    better than us: they are left out.
    """
    answer = await resolver.mx(domain)
    if answer.failed:
        return Exchanges(reason=Reason.DNS_TROUBLE)
    if answer.status is Status.NXDOMAIN:
        return Exchanges(reason=Reason.NO_DOMAIN)
    exchangers = _in_order(answer.records, rng) if answer.ok else [Mx(0, ascii_domain(domain) or domain)]
    if not exchangers:
        return Exchanges(reason=Reason.NULL_MX)
    found = await asyncio.gather(*(resolver.addresses(mx.exchange) for mx in exchangers))
    limit = min((mx.preference for mx, a in zip(exchangers, found, strict=True) if _us(mx, a, ourselves)), default=None)
    if limit is not None:
        found = [a for mx, a in zip(exchangers, found, strict=True) if mx.preference < limit]
        if not found:
            return Exchanges(reason=Reason.LOOP)
    return usable_addresses(found, allow_private)


def _in_order(records: Sequence[Mx], rng: random.Random) -> list[Mx]:
    # A `.` among other exchangers is a mistake of the zone; alone it means that there is no mail (RFC 7505 §3).
    exchangers = [mx for mx in records if mx.exchange != "."]
    rng.shuffle(exchangers)
    return sorted(exchangers, key=lambda mx: mx.preference)[:MAX_EXCHANGERS]


def _us(mx: Mx, answer: Answer[IpAddress], ourselves: Ourselves) -> bool:
    return ourselves.has(mx.exchange.rstrip("."), answer.records)


def usable_addresses(answers: Sequence[Answer[IpAddress]], allow_private: bool) -> Exchanges:
    """What may be connected to of the addresses that were found."""
    found = dict.fromkeys(address for answer in answers for address in answer.records)
    usable = tuple(a for a in found if allow_private or not is_private(a))[:MAX_ADDRESSES]
    if usable:
        return Exchanges(usable)
    if any(answer.failed for answer in answers):
        return Exchanges(reason=Reason.DNS_TROUBLE)
    return Exchanges(reason=Reason.PRIVATE if found else Reason.NO_ADDRESS)
