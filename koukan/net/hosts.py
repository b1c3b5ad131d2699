"""The names that the machine itself knows: hosts(5)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

HOSTS_FILE = "/etc/hosts"

#: what a hosts file without it would say (RFC 6761 §6.3)
_LOCALHOST = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


def read_hosts(path: str = HOSTS_FILE) -> dict[str, tuple[IPv4Address | IPv6Address, ...]]:
    """Addresses by lower-cased name. A missing file, or a line that says nothing usable, is no error."""
    hosts: dict[str, tuple[IPv4Address | IPv6Address, ...]] = {}
    for line in _lines(path):
        address, *names = line.partition("#")[0].split() or [""]
        try:
            parsed = ip_address(address)
        except ValueError:
            continue
        for name in {n.lower() for n in names}:
            hosts[name] = (*hosts.get(name, ()), parsed)
    hosts.setdefault("localhost", _LOCALHOST)
    return hosts


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
