"""The PROXY protocol, versions 1 and 2: a load balancer tells who the client is (haproxy's proxy-protocol.txt)."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any, NamedTuple

from aiosmtpd.proxy_protocol import get_proxy

from koukan.model import HostPort


class Proxied(NamedTuple):
    """The two ends of the client's connection; None where the header does not tell (UNKNOWN, LOCAL)."""

    source: HostPort | None
    destination: HostPort | None


async def read_header(reader: asyncio.StreamReader) -> Proxied | None:
    """The header at the beginning of a connection; None for anything else."""
    found = await get_proxy(reader)
    if not found:
        return None
    return Proxied(_address(found.src_addr, found.src_port), _address(found.dst_addr, found.dst_port))


def _address(address: Any, port: Any) -> HostPort | None:
    text = address.decode("ascii", "replace") if isinstance(address, bytes) else str(address or "")
    try:
        return HostPort(str(ip_address(text)), int(port))
    except (ValueError, TypeError):
        return None
