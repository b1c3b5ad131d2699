"""How domains belong together: by the public suffix list, under which nobody owns what his neighbour owns."""

from __future__ import annotations

import enum
from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

from koukan.message.address import ascii_domain


class Alignment(enum.Enum):
    """How one domain relates to another."""

    SAME = "same"
    #: both are below the same registrable domain
    ORGANIZATION = "organization"
    OTHER = "other"


def align(one: str, other: str) -> Alignment:
    """Compare two domain names, without case and in U-labels or A-labels alike."""
    a, b = _normal(one), _normal(other)
    if a == b:
        return Alignment.SAME
    organization = organizational_domain(a)
    if organization is not None and organization == organizational_domain(b):
        return Alignment.ORGANIZATION
    return Alignment.OTHER


@lru_cache(maxsize=4096)
def organizational_domain(domain: str) -> str | None:
    """The registrable domain that a domain, in A-labels, is in; None for a public suffix itself."""
    found: str | None = _suffixes().privatesuffix(domain)
    return found


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _normal(domain: str) -> str:
    lowered = domain.lower().rstrip(".")
    return ascii_domain(lowered) or lowered
