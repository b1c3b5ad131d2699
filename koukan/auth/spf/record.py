"""SPF records: which text is one, and what it says (RFC 7208 §4.5, §4.6, §12)."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from koukan.auth.spf.macros import MacroString, parse_domain_spec, parse_macros
from koukan.errors import InvalidRecord

#: octets of a record that is read: many times what DNS carries well (RFC 7208 §3.4), and read in some 30 ms at worst
MAX_RECORD = 8 * 1024


class Result(enum.Enum):
    """The result of check_host() (§2.6)."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_QUALIFIERS = {"": Result.PASS, "+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}

_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_MECHANISM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(.*)", re.DOTALL)
_PREFIX4 = r"(?:/(?P<prefix4>0|[1-9][0-9]?))?"
_PREFIX6 = r"(?P<prefix6>0|[1-9][0-9]{0,2})"
_IP4 = re.compile(rf":([0-9.]{{7,15}}){_PREFIX4}")
_IP6 = re.compile(rf":([0-9A-Fa-f:.]{{2,45}})(?:/{_PREFIX6})?")
_DUAL = re.compile(rf"(?::(?P<domain>.*?))?{_PREFIX4}(?://{_PREFIX6})?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One mechanism. `domain` is None where it means the current domain; `network` is that of ip4 and ip6."""

    qualifier: Result
    name: str
    #: as it stands in the record
    text: str
    domain: MacroString | None = None
    network: IPv4Network | IPv6Network | None = None
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    """What a domain publishes."""

    mechanisms: tuple[Mechanism, ...]
    redirect: MacroString | None = None
    exp: MacroString | None = None


def select_records(texts: Iterable[bytes]) -> list[bytes]:
    """The SPF records among the TXT records of a name."""
    return [text for text in texts if _VERSION.match(text)]


def parse_record(content: bytes) -> Record:
    """The terms of a record that `select_records` has found. Raises InvalidRecord for any error anywhere in it (§4.6)."""
    if len(content) > MAX_RECORD:
        raise InvalidRecord(f"longer than {MAX_RECORD} octets")
    if not content.isascii():
        raise InvalidRecord("not ASCII")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, MacroString] = {}
    for term in content[len("v=spf1") :].decode("ascii").split(" "):
        modifier = _MODIFIER.fullmatch(term)
        if modifier is not None:
            _add_modifier(modifiers, modifier[1].lower(), modifier[2])
        elif term:
            mechanisms.append(_mechanism(term))
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


def _add_modifier(modifiers: dict[str, MacroString], name: str, value: str) -> None:
    if name not in ("redirect", "exp"):
        # Whatever later versions mean by it, it has to be well-formed.
        parse_macros(value)
    elif name in modifiers:
        raise InvalidRecord(f"{name} appears twice")
    else:
        modifiers[name] = parse_domain_spec(value)


def _mechanism(term: str) -> Mechanism:
    found = _MECHANISM.fullmatch(term)
    read = _READERS.get(found[2].lower()) if found else None
    if found is None or read is None:
        raise InvalidRecord(f"unknown mechanism {_short(term)}")
    return read(_QUALIFIERS[found[1]], found[2].lower(), term, found[3])


def _all(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    if rest:
        raise InvalidRecord(f"all takes nothing: {_short(term)}")
    return Mechanism(qualifier, name, term)


def _domain(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    """include, exists: with a domain."""
    if not rest.startswith(":"):
        raise InvalidRecord(f"{name} needs a domain: {_short(term)}")
    return Mechanism(qualifier, name, term, parse_domain_spec(rest[1:]))


def _ptr(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    return _domain(qualifier, name, term, rest) if rest else Mechanism(qualifier, name, term)


def _addresses(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    """a, mx: with an optional domain and optional prefix lengths for both families."""
    found = _DUAL.fullmatch(rest)
    if found is None:
        raise InvalidRecord(f"no prefix length: {_short(term)}")
    prefix4, prefix6 = int(found["prefix4"] or 32), int(found["prefix6"] or 128)
    if prefix4 > 32 or prefix6 > 128:
        raise InvalidRecord(f"no prefix length: {_short(term)}")
    domain = None if found["domain"] is None else parse_domain_spec(found["domain"])
    return Mechanism(qualifier, name, term, domain, prefix4=prefix4, prefix6=prefix6)


def _ip4(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    found = _IP4.fullmatch(rest)
    try:
        if found is None:
            raise ValueError(rest)
        network = IPv4Network((IPv4Address(found[1]), int(found["prefix4"] or 32)), strict=False)
    except ValueError:
        raise InvalidRecord(f"no IPv4 network: {_short(term)}") from None
    return Mechanism(qualifier, name, term, network=network)


def _ip6(qualifier: Result, name: str, term: str, rest: str) -> Mechanism:
    found = _IP6.fullmatch(rest)
    try:
        if found is None:
            raise ValueError(rest)
        network = IPv6Network((IPv6Address(found[1]), int(found["prefix6"] or 128)), strict=False)
    except ValueError:
        raise InvalidRecord(f"no IPv6 network: {_short(term)}") from None
    return Mechanism(qualifier, name, term, network=network)


_READERS: dict[str, Callable[[Result, str, str, str], Mechanism]] = {
    "all": _all,
    "include": _domain,
    "a": _addresses,
    "mx": _addresses,
    "ptr": _ptr,
    "ip4": _ip4,
    "ip6": _ip6,
    "exists": _domain,
}


def _short(term: str) -> str:
    return f"{term[:60]!a}"
