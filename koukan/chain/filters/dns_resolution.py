"""dns_resolution: turns the host names of the route into addresses, and says whether the envelope's domains take mail.

A route that does not resolve loses its hosts, and `resolution_result` says why. The recipient is not answered here, so that a
policy_action behind this filter can give the answer that the operator wants; where none does, the end of the chain answers:
550 5.1.2 for NX, 450 4.4.3 for TEMP, 451 4.3.5 where it is a host of ours that is gone.

Whose word a host is decides what it may lead to, and what it means when it leads nowhere. A name from the configuration may be
in /etc/hosts or in the search list of resolv.conf, and an address from there is taken as it is; one that is gone is our own
trouble, which somebody mends, and says nothing about the recipient. The domain of a recipient is a stranger's word: nothing
but public DNS speaks for it, and what leads to a private address is refused unless `allow_private`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from koukan.chain.addresses import canonical_domain
from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import DnsResolutionOutput, DnsStatus
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.filters import DnsResolution
from koukan.message.address import ascii_domain, parse_address, read_address, read_recipient
from koukan.model import HostPort, Mailbox
from koukan.net.dns import IpAddress, Status
from koukan.net.exchanges import Exchanges, Ourselves, Reason, find_exchanges, usable_addresses
from koukan.net.private import is_private

logger = logging.getLogger("koukan.chain")


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of one host or domain."""

    status: DnsStatus
    hosts: tuple[HostPort, ...] = ()
    #: the operator has named it
    ours: bool = False


@dataclass(slots=True)
class _Strangers:
    """In `tx.notes`: the domains of the recipients, by each form in which a routing policy may write them."""

    domains: dict[str, str] = field(default_factory=dict)
    #: recipients that were looked at: there may be thousands, so each is looked at once
    seen: int = 0

    @classmethod
    def of(cls, tx: Transaction) -> dict[str, str]:
        found: _Strangers = tx.notes.setdefault(cls, cls())
        for recipient in tx.recipients[found.seen :]:
            domain = recipient.mailbox.domain
            if domain is not None:
                literal = _literal(domain)
                found.domains[domain] = domain
                found.domains[canonical_domain(domain) if literal is None else str(literal)] = domain
        found.seen = len(tx.recipients)
        return found.domains


class _Resolved:
    """Key of `tx.notes`: the route that was resolved last, to which `resolution_result` belongs."""


class DnsResolutionFilter(Filter):
    """Looks at the reverse-path, each recipient, and the route that a router filter has set for it."""

    def __init__(self, options: DnsResolution, context: Context) -> None:
        self._context = context
        self._suffix = None if options.suffix is None else options.suffix.lower()
        self._literal = None if options.literal is None else options.literal.lower()
        self._static = tuple(host.host_port for host in options.static_hosts or ())
        self._allow_private = options.allow_private
        self._ourselves = _ourselves(options.own_hosts)

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> None:
        address = read_address(mail_from.address)
        if address is None:
            return
        known = _output(tx)
        result = _first_failure(known.mail_from_result, await self._domain(tx, address.domain))
        tx.add_output(replace(known, mail_from_result=result))

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> None:
        address = read_recipient(recipient.mailbox.address)
        result = DnsStatus.NX if address is None else await self._domain(tx, address.domain)
        known = _output(tx)
        tx.add_output(replace(known, rcpt_to_result=_at(known.rcpt_to_result, recipient.index, result)))
        await self._resolve_route(tx)

    async def _domain(self, tx: Transaction, domain: str) -> DnsStatus:
        """Whether the domain takes mail; that it is our own is no fault of an envelope. Our postmaster has none."""
        if self._static or not domain or not self._matches(domain):
            return DnsStatus.OK
        return (await self._strangers_host(tx, HostPort(domain, 0), Ourselves())).status

    async def _resolve_route(self, tx: Transaction) -> None:
        if tx.route is not tx.notes.get(_Resolved):
            # What was found out about the way of another recipient says nothing about this one's.
            tx.add_output(replace(_output(tx), resolution_result=None, relay_lost=False))
        if tx.route is not None:
            await self._resolve_hosts(tx, tx.route)
        tx.notes[_Resolved] = tx.route

    async def _resolve_hosts(self, tx: Transaction, route: Route) -> None:
        strangers = {} if route.hosts_are_ours else _Strangers.of(tx)
        if not any(self._to_resolve(host, strangers) for host in route.hosts):
            return
        found = await asyncio.gather(*(self._host(tx, host, strangers) for host in route.hosts))
        hosts = tuple(dict.fromkeys(host for f in found for host in f.hosts))
        # Of several, what is gone leaves the others.
        result = DnsStatus.OK if hosts else max(f.status for f in found)
        tx.route = replace(route, hosts=hosts)
        lost = not hosts and any(f.ours for f in found)
        tx.add_output(replace(_output(tx), resolution_result=result, relay_lost=lost))

    async def _host(self, tx: Transaction, host: HostPort, strangers: Mapping[str, str]) -> _Found:
        if not self._to_resolve(host, strangers):
            return _Found(DnsStatus.OK, (host,))
        ourselves = self._ourselves_at(tx.local_host, host.port)
        domain = strangers.get(host.host.lower())
        if domain is not None:
            return await self._strangers_host(tx, HostPort(domain, host.port), ourselves)
        return await self._operators_host(tx, host, ourselves)

    async def _strangers_host(self, tx: Transaction, host: HostPort, ourselves: Ourselves) -> _Found:
        """Where a domain from the envelope leads."""
        if self._static:
            return await self._static_hosts(tx, ourselves)
        literal = _literal(host.host)
        if literal is not None:
            return _strangers(tx, host, self._literal_host(literal, ourselves))
        if _ip(host.host) is not None:
            # Without brackets it is a domain name, and no top-level domain is a number.
            return _strangers(tx, host, Exchanges(reason=Reason.NO_DOMAIN))
        return _strangers(tx, host, await self._exchanges(host.host, ourselves))

    async def _operators_host(self, tx: Transaction, host: HostPort, ourselves: Ourselves) -> _Found:
        """Where a host from the configuration leads: itself, what /etc/hosts says, its mail exchangers, the search list."""
        if self._static:
            return await self._static_hosts(tx, ourselves)
        return await self._our_host(tx, host, ourselves)

    async def _static_hosts(self, tx: Transaction, ourselves: Ourselves) -> _Found:
        found = await asyncio.gather(*(self._our_host(tx, host, ourselves) for host in self._static))
        hosts = tuple(host for f in found for host in f.hosts)
        return _Found(DnsStatus.OK if hosts else DnsStatus.TEMP, hosts, ours=True)

    async def _our_host(self, tx: Transaction, host: HostPort, ourselves: Ourselves) -> _Found:
        address = _ip(host.host) or _literal(host.host)
        known = self._context.dns.known_host(host.host) if address is None else (address,)
        if known:
            return _ours(tx, host, Exchanges(known))
        exchanges = await self._exchanges(host.host, ourselves)
        if exchanges.reason in (Reason.NO_DOMAIN, Reason.NULL_MX):
            # A relay takes mail for others, whether or not it has mailboxes under its own name.
            exchanges = await self._own_addresses(host.host)
        return _ours(tx, host, exchanges)

    async def _exchanges(self, domain: str, ourselves: Ourselves) -> Exchanges:
        return await find_exchanges(
            self._context.dns,
            domain,
            ourselves=ourselves,
            allow_private=self._allow_private,
            rng=self._context.random,
        )

    async def _own_addresses(self, name: str) -> Exchanges:
        """Those of a name without exchangers, or that only the search list makes complete."""
        answer = await self._context.dns.host(name)
        if answer.status is Status.NXDOMAIN:
            return Exchanges(reason=Reason.NO_DOMAIN)
        return usable_addresses([answer], self._allow_private)

    def _literal_host(self, address: IpAddress, ourselves: Ourselves) -> Exchanges:
        if address in ourselves.addresses:
            return Exchanges(reason=Reason.LOOP)
        if is_private(address) and not self._allow_private:
            return Exchanges(reason=Reason.PRIVATE)
        return Exchanges((address,))

    def _ourselves_at(self, local_host: HostPort | None, port: int) -> Ourselves:
        """What the configuration calls us, and the listener that this message came in by."""
        address = None if local_host is None or local_host.port != port else _ip(local_host.host)
        if address is None:
            return self._ourselves
        return replace(self._ourselves, addresses=self._ourselves.addresses | {address})

    def _to_resolve(self, host: HostPort, strangers: Container[str]) -> bool:
        """An address from the configuration stands for itself; one from an envelope has to pass."""
        return self._matches(host.host) and (_ip(host.host) is None or host.host.lower() in strangers)

    def _matches(self, host: str) -> bool:
        name = host.lower()
        return name == self._literal or (self._suffix is not None and name.endswith(self._suffix))


def build(options: DnsResolution, context: Context) -> DnsResolutionFilter:
    return DnsResolutionFilter(options, context)


def _ourselves(own_hosts: Sequence[str]) -> Ourselves:
    addresses = {text: _ip(text) for text in own_hosts}
    names = (ascii_domain(text.lower().rstrip(".")) for text, address in addresses.items() if address is None)
    return Ourselves(frozenset(name for name in names if name), frozenset(a for a in addresses.values() if a))


def _ip(text: str) -> IpAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _strangers(tx: Transaction, host: HostPort, exchanges: Exchanges) -> _Found:
    if exchanges.reason is None:
        return _Found(DnsStatus.OK, _at_port(exchanges, host.port))
    logger.info("%s: %r does not resolve: %s", tx.id, host.host, exchanges.reason.value)
    return _Found(DnsStatus.TEMP if exchanges.reason.temporary else DnsStatus.NX)


def _ours(tx: Transaction, host: HostPort, exchanges: Exchanges) -> _Found:
    """Whatever is wrong with it, the operator can mend it: the recipient may come again."""
    if exchanges.reason is None:
        return _Found(DnsStatus.OK, _at_port(exchanges, host.port), ours=True)
    logger.warning("%s: relay %s of the configuration does not resolve: %s", tx.id, host, exchanges.reason.value)
    return _Found(DnsStatus.TEMP, ours=True)


def _at_port(exchanges: Exchanges, port: int) -> tuple[HostPort, ...]:
    return tuple(HostPort(str(address), port) for address in exchanges.addresses)


def _literal(text: str) -> IpAddress | None:
    """The address of `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    address = parse_address(f"x@{text}")
    return None if address is None else address.literal


def _output(tx: Transaction) -> DnsResolutionOutput:
    """What an earlier dns_resolution of the chain, or an earlier moment, has found."""
    return tx.output(DnsResolutionOutput) or DnsResolutionOutput()


def _first_failure(known: DnsStatus | None, new: DnsStatus) -> DnsStatus:
    """Of several dns_resolution filters, each speaks only for the names that match it."""
    return known if known else new


def _at(results: Iterable[DnsStatus], index: int, new: DnsStatus) -> tuple[DnsStatus, ...]:
    """`results` with `new` at `index`; recipients that never came here were answered before and count as OK."""
    padded = [*results]
    padded += [DnsStatus.OK] * (index + 1 - len(padded))
    padded[index] = _first_failure(padded[index], new)
    return tuple(padded)
