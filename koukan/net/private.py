"""Addresses that the outside may not send us to (RFC 6890): what a stranger's DNS must not make us connect to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

#: networks that lead to ourselves, to our neighbours or nowhere; the ones for documentation lead nowhere and are harmless
_PRIVATE_V4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # RFC 1918
            "100.64.0.0/10",  # shared by providers, and by clusters
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local: where clouds keep their metadata
            "172.16.0.0/12",  # RFC 1918
            "192.0.0.0/24",  # protocol assignments
            "192.168.0.0/16",  # RFC 1918
            "198.18.0.0/15",  # benchmarks
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_PRIVATE_V6 = tuple(
    map(
        ip_network,
        (
            "::/96",  # unspecified, loopback, IPv4-compatible
            "64:ff9b:1::/48",  # local translation (RFC 8215)
            "100::/64",  # discard
            "fc00::/7",  # unique local
            "fe80::/10",  # link-local
            "fec0::/10",  # site-local
            "ff00::/8",  # multicast
        ),
    )
)
#: the well-known prefix of translation to IPv4 (RFC 6052): the last four octets are where it leads
_TRANSLATED = ip_network("64:ff9b::/96")


def is_private(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address, or the IPv4 address inside it, is not one of the public Internet."""
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is None:
            return any(address in network for network in _PRIVATE_V6)
        address = inner
    return any(address in network for network in _PRIVATE_V4)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
