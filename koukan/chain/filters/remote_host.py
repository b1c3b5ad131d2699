"""remote_host: the client's name, confirmed by its own address (FCrDNS; RFC 1912 §2.1, RFC 8601 §3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from ipaddress import IPv4Address

from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import HostStatus, RemoteHostOutput
from koukan.chain.transaction import Transaction
from koukan.config.filters import RemoteHost
from koukan.message.address import ascii_domain
from koukan.model import Mailbox, Response
from koukan.net.dns import Answer, IpAddress, Resolver

#: names of one address that are looked at: an honest host has one, and each costs its owner's name servers a question
MAX_NAMES = 4

#: what a host name can be: a PTR record may hold anything, and what it holds ends up in header fields and logs
_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]+")

_NO_PTR = Response(450, "4.4.3 RemoteHostFilter ptr err: the name of your address cannot be looked up now")
_NO_ADDRESS = Response(450, "4.4.3 RemoteHostFilter fwd err: the address of your name cannot be looked up now")


class RemoteHostFilter(Filter):
    """Looks the client up when its reverse-path arrives. A name that DNS cannot tell now is a temporary failure."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        if tx.remote_host is None:
            return None
        ehlo = tx.smtp_meta.ehlo_host if tx.smtp_meta else None
        found = await _look_up(self._context.dns, tx.client_address, ehlo)
        tx.add_output(found)
        if found.status is not HostStatus.DNS_TEMP:
            return None
        return _NO_PTR if found.remote_hostname is None else _NO_ADDRESS


def build(options: RemoteHost, context: Context) -> RemoteHostFilter:
    return RemoteHostFilter(context)


async def _look_up(resolver: Resolver, address: IpAddress | None, ehlo: str | None) -> RemoteHostOutput:
    """The name of a client: of several confirmed ones the one it calls itself, else the first, else the first unconfirmed."""
    if address is None:
        return RemoteHostOutput(HostStatus.NOT_FOUND)
    answer = await resolver.ptr(address)
    if answer.failed:
        return RemoteHostOutput(HostStatus.DNS_TEMP)
    names = [name for name in answer.records if _HOST_NAME.fullmatch(name) and name != "."][:MAX_NAMES]
    if not names:
        return RemoteHostOutput(HostStatus.NOT_FOUND)
    forward = await asyncio.gather(*(_addresses(resolver, name, address) for name in names))
    confirmed = [name for name, found in zip(names, forward, strict=True) if address in found.records]
    if not confirmed:
        # Had the one that failed answered, the verdict could be another.
        failed = any(found.failed for found in forward)
        return RemoteHostOutput(HostStatus.DNS_TEMP if failed else HostStatus.OK, remote_hostname=names[0])
    aligned = _aligned(confirmed, ehlo)
    return RemoteHostOutput(
        HostStatus.OK, fcrdns=True, ehlo_alignment=aligned is not None, remote_hostname=aligned or confirmed[0]
    )


async def _addresses(resolver: Resolver, name: str, address: IpAddress) -> Answer[IpAddress]:
    """The addresses of the client's own family: no other can be its."""
    return await (resolver.a(name) if isinstance(address, IPv4Address) else resolver.aaaa(name))


def _aligned(names: Sequence[str], ehlo: str | None) -> str | None:
    """The name that the client calls itself. DNS names compare without case (RFC 4343)."""
    if not ehlo:
        return None
    wanted = (ascii_domain(ehlo) or ehlo).lower().rstrip(".")
    return next((name for name in names if name.lower().rstrip(".") == wanted), None)
