"""Sets of mail addresses as routing policies and matchers configure them: domains, local parts, extensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from koukan.message.address import Address, ascii_domain


def canonical_domain(domain: str) -> str:
    """A domain as domains are compared: lower case, A-labels (RFC 5890); what is no name is compared as it is."""
    domain = domain.lower()
    return ascii_domain(domain) or domain


@dataclass(frozen=True, slots=True)
class AddressSet:
    """Addresses in one of the domains (none: any) that have one of the local parts (none: any).

    With a delimiter, `local + delimiter + anything` is the local part too. Case does not count, not even in local parts:
    nobody who writes such a list means it to (RFC 5321 §2.4 leaves that to the receiving host).
    """

    domains: frozenset[str]
    locals: frozenset[str]
    delimiter: str

    @classmethod
    def of(cls, domains: Iterable[str], prefixes: Iterable[str], delimiter: str | None) -> AddressSet:
        return cls(
            frozenset(canonical_domain(d.rstrip(".")) for d in domains),
            frozenset(p.lower() for p in prefixes),
            (delimiter or "").lower(),
        )

    def __contains__(self, address: Address) -> bool:
        if self.domains and canonical_domain(address.domain) not in self.domains:
            return False
        return self.has_local(address.local)

    def has_local(self, local: str) -> bool:
        """Whether the local part is one of the list, in whatever domain."""
        local = local.lower()
        if not self.locals or local in self.locals:
            return True
        return bool(self.delimiter) and any(local.startswith(prefix + self.delimiter) for prefix in self.locals)
