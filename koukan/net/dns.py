"""Names and addresses: one resolver and one cache for the whole process (RFC 1035, RFC 2308).

Nothing here raises for what DNS, or a name that is none, does: every answer says what it is. A temporary failure is never
taken for a name that does not exist, and that never for one without such records.
"""

from __future__ import annotations

import asyncio
import enum
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Generic, NamedTuple, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from koukan.config.router import DnsConfig
from koukan.errors import ConfigError
from koukan.message.address import ascii_domain
from koukan.net.hosts import read_hosts

#: seconds an answer is kept at least: a TTL of 0 would make one message ask the same many times
MIN_TTL = 5.0
#: seconds an answer is kept at most, whatever its TTL says: nobody waits longer for a corrected record
MAX_TTL = 3600.0
#: seconds an answer that there is nothing is kept at most (RFC 2308 §5 asks for at most one to three hours)
MAX_NEGATIVE_TTL = 300.0
#: seconds in which a server that just failed is not asked the same again (RFC 2308 §7 allows five minutes)
FAILURE_TTL = 1.0
#: octets of records in one cached answer: no honest one has more, and a full cache takes tens of megabytes at worst
MAX_CACHED = 4096
#: octets that a record counts for which is no text
_RECORD_SIZE = 64
#: aliases followed for one name, within one response and over several
MAX_CNAMES = 8
#: questions at a time: each takes a socket, so that its source port is random (RFC 5452 §4.5)
MAX_QUESTIONS = 256
#: octets of a response over UDP that pass any network in one piece (RFC 9715)
UDP_PAYLOAD = 1232
#: characters of a name that is looked at: no name in U-labels is longer
MAX_NAME = 1024

DNS_PORT = 53

_BRACKETED = re.compile(r"\[([^\]]*)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([^:]*):([0-9]{1,5})")

IpAddress = IPv4Address | IPv6Address
T_co = TypeVar("T_co", covariant=True)


class Status(enum.Enum):
    """What an answer is."""

    OK = "ok"
    #: the name does not exist
    NXDOMAIN = "nxdomain"
    #: the name exists and has no records of that type
    NODATA = "nodata"
    #: no server could say: timeout, SERVFAIL, or an answer that cannot be read
    TEMPFAIL = "tempfail"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """Records in the order of the response, empty unless OK; `ttl`: seconds for which the answer may be used again."""

    status: Status
    records: tuple[T_co, ...] = ()
    ttl: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @property
    def failed(self) -> bool:
        """Nobody knows now; ask again later."""
        return self.status is Status.TEMPFAIL


class Mx(NamedTuple):
    """A mail exchanger, without its trailing dot; the exchange `.` means that the domain takes no mail (RFC 7505)."""

    preference: int
    exchange: str


class _Kind(NamedTuple):
    """A record type and how its data is read."""

    type: dns.rdatatype.RdataType
    read: Callable[[Any], Any]


def _read_address(record: A | AAAA) -> IpAddress:
    return ip_address(record.address)


def _read_mx(record: MX) -> Mx:
    return Mx(record.preference, record.exchange.to_text(omit_final_dot=True))


def _read_ptr(record: PTR) -> str:
    return record.target.to_text()


def _read_txt(record: TXT) -> bytes:
    return b"".join(record.strings)


_A = _Kind(dns.rdatatype.A, _read_address)
_AAAA = _Kind(dns.rdatatype.AAAA, _read_address)
_MX = _Kind(dns.rdatatype.MX, _read_mx)
_PTR = _Kind(dns.rdatatype.PTR, _read_ptr)
_TXT = _Kind(dns.rdatatype.TXT, _read_txt)

_NO_NAME: Answer[Any] = Answer(Status.NXDOMAIN)
_FAILED: Answer[Any] = Answer(Status.TEMPFAIL, ttl=FAILURE_TTL)

_Key = tuple[str, dns.rdatatype.RdataType]


class Resolver:
    """Asks the configured name servers, or the system's; keeps what they say."""

    def __init__(self, config: DnsConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds. Raises ConfigError for a name server that is no address."""
        self._stub = _stub(config)
        self._timeout = config.timeout
        self._cache = _Cache(config.cache_size, clock)
        self._running: dict[_Key, asyncio.Task[Answer[Any]]] = {}
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)
        self._hosts = read_hosts()

    async def a(self, name: str) -> Answer[IPv4Address]:
        """The IPv4 addresses of a name."""
        return await self._look_up(name, _A)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """The IPv6 addresses of a name."""
        return await self._look_up(name, _AAAA)

    async def addresses(self, name: str) -> Answer[IpAddress]:
        """The addresses of a name, IPv4 first; TEMPFAIL when there are none and one of the two could not be asked."""
        key = name.lower()
        v4, v6 = self._cache.get((key, _A.type)), self._cache.get((key, _AAAA.type))
        if v4 is not None and v6 is not None:
            return _either(v4, v6)
        return _either(*await asyncio.gather(self.a(name), self.aaaa(name)))

    async def mx(self, name: str) -> Answer[Mx]:
        """The mail exchangers of a domain, in no order."""
        return await self._look_up(name, _MX)

    async def ptr(self, address: IpAddress) -> Answer[str]:
        """The names of an address, with their trailing dots."""
        return await self._look_up(address.reverse_pointer, _PTR)

    async def txt(self, name: str) -> Answer[bytes]:
        """The texts of a name, the strings of each record joined."""
        return await self._look_up(name, _TXT)

    async def host(self, name: str) -> Answer[IpAddress]:
        """The addresses of a host that the operator named: as the system's own programs look it up, with /etc/hosts and
        the search list of resolv.conf(5)."""
        known = self.known_host(name)
        if known:
            return Answer(Status.OK, known)
        answer: Answer[IpAddress] = _NO_NAME
        for candidate in self._candidates(name):
            answer = await self.addresses(candidate)
            if answer.ok or answer.failed:
                break
        return answer

    def known_host(self, name: str) -> tuple[IpAddress, ...]:
        """The addresses that /etc/hosts has for a name."""
        return self._hosts.get(name.lower(), ())

    def _candidates(self, name: str) -> list[str]:
        search = [f"{name}.{suffix.to_text(omit_final_dot=True)}" for suffix in self._stub.search]
        if name.endswith("."):
            return [name]
        # A name with enough dots is most likely complete.
        complete = name.count(".") >= (1 if self._stub.ndots is None else self._stub.ndots)
        return [name, *search] if complete else [*search, name]

    async def _look_up(self, name: str, kind: _Kind) -> Answer[Any]:
        key = (name.lower(), kind.type)
        answer = self._cache.get(key)
        if answer is not None:
            return answer
        running = self._running.get(key)
        if running is None:
            question = _question(name)
            if question is None:
                return _NO_NAME
            running = self._running[key] = asyncio.create_task(self._ask(key, question, kind))
            running.add_done_callback(lambda _: self._running.pop(key))
        # Whoever gives up waiting leaves the question to the others who wait for it.
        return await asyncio.shield(running)

    async def _ask(self, key: _Key, question: dns.name.Name, kind: _Kind) -> Answer[Any]:
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                answer = await self._follow(question, kind)
        except TimeoutError:
            answer = _FAILED
        if _size(answer) <= MAX_CACHED:
            self._cache.put(key, answer)
        return answer

    async def _follow(self, question: dns.name.Name, kind: _Kind) -> Answer[Any]:
        """The answer at the end of the aliases. A recursive server sends them all in one response, others do not."""
        for _ in range(MAX_CNAMES):
            try:
                found = await self._stub.resolve(question, kind.type, search=False, raise_on_no_answer=False)
            except dns.resolver.NXDOMAIN as error:
                return _negative(Status.NXDOMAIN, error.kwargs["responses"][question].resolve_chaining().minimum_ttl)
            except (dns.exception.DNSException, OSError):
                return _FAILED
            ttl = found.chaining_result.minimum_ttl
            if found.rrset is not None:
                return Answer(Status.OK, tuple(map(kind.read, found.rrset)), min(max(ttl, MIN_TTL), MAX_TTL))
            if found.canonical_name == question:
                return _negative(Status.NODATA, ttl)
            question = found.canonical_name
        return _FAILED


class _Cache:
    """Answers until their time is over; the one that was not asked for longest makes room."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[_Key, tuple[float, Answer[Any]]] = OrderedDict()

    def get(self, key: _Key) -> Answer[Any] | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: _Key, answer: Answer[Any]) -> None:
        self._entries[key] = (self._clock() + answer.ttl, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _stub(config: DnsConfig) -> dns.asyncresolver.Resolver:
    servers = [_name_server(text) for text in config.nameservers]
    try:
        stub = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        # As resolv.conf(5) has it for a machine without one.
        stub = dns.asyncresolver.Resolver(configure=False)
        servers = [dns.nameserver.Do53Nameserver("127.0.0.1", DNS_PORT)]
    if servers:
        stub.nameservers = servers
    stub.use_edns(0, 0, UDP_PAYLOAD)
    stub.lifetime = config.timeout
    # Every server gets its turn, and a lost datagram a second chance.
    stub.timeout = config.timeout / (2 * max(1, len(stub.nameservers)))
    return stub


def _name_server(text: str) -> dns.nameserver.Nameserver:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:53`."""
    found = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    host, port = (found[1], int(found[2] or DNS_PORT)) if found else (text, DNS_PORT)
    try:
        if not 0 < port < 65536:
            raise ValueError(port)
        return dns.nameserver.Do53Nameserver(str(ip_address(host)), port)
    except ValueError:
        raise ConfigError(
            f"dns.nameservers: {text!r} is no address; write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53"
        ) from None


def _question(name: str) -> dns.name.Name | None:
    """The name in DNS form, None when there can be no such name."""
    if len(name) > MAX_NAME:
        return None
    text = ascii_domain(name)
    if not text:
        return None
    try:
        question = dns.name.from_text(text, dns.name.root)
    except (dns.exception.DNSException, UnicodeError):
        return None
    return None if question == dns.name.root else question


def _size(answer: Answer[Any]) -> int:
    return sum(len(record) if isinstance(record, bytes) else _RECORD_SIZE for record in answer.records)


def _negative(status: Status, ttl: float) -> Answer[Any]:
    return Answer(status, ttl=min(max(ttl, MIN_TTL), MAX_NEGATIVE_TTL))


def _either(v4: Answer[IPv4Address], v6: Answer[IPv6Address]) -> Answer[IpAddress]:
    records: tuple[IpAddress, ...] = (*v4.records, *v6.records)
    if records:
        return Answer(Status.OK, records, min(a.ttl for a in (v4, v6) if a.ok))
    statuses = (v4.status, v6.status)
    worst = next(s for s in (Status.TEMPFAIL, Status.NXDOMAIN, Status.NODATA) if s in statuses)
    return Answer(worst, ttl=min(v4.ttl, v6.ttl))
