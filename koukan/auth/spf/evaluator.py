"""check_host(): the verdict of a domain's SPF record on a client (RFC 7208 §4, §5, §6).

Bounds: MAX_LOOKUPS terms that ask DNS, MAX_VOIDS of them without an answer, MAX_NAMES mail exchangers and names of the client,
MAX_SECONDS in all. Names of the client are looked up once, for `ptr` and `%{p}` together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TypeVar

from koukan.auth.spf.macros import MacroString, parse_macros
from koukan.auth.spf.record import MAX_RECORD, Mechanism, Record, Result, parse_record, select_records
from koukan.errors import InvalidRecord, KoukanError
from koukan.message.address import POSTMASTER, ascii_domain
from koukan.net.dns import Answer, IpAddress, Resolver

#: terms of one evaluation that ask DNS: include, a, mx, ptr, exists, redirect (RFC 7208 §4.6.4)
MAX_LOOKUPS = 10
#: of these terms, those that may be void: whose questions have no answer (RFC 7208 §4.6.4)
MAX_VOIDS = 2
#: mail exchangers of one `mx`, and names of the client (RFC 7208 §4.6.4)
MAX_NAMES = 10
#: seconds of one evaluation (RFC 7208 §4.6.4 asks for at least 20)
MAX_SECONDS = 20.0
#: characters of an explanation: it has to fit into a reply
MAX_EXPLANATION = 400
#: characters of a domain name without its trailing dot, and of a label (RFC 1035 §2.3.4)
_MAX_DOMAIN, _MAX_LABEL = 253, 63

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one domain. `mechanism` is the term that decided, `default` where none did, None where none could."""

    result: Result
    mechanism: str | None = None
    #: why the client may not send, in the domain owner's words; printable ASCII
    explanation: str | None = None
    #: what is wrong, for temperror and permerror; printable ASCII
    problem: str | None = None


async def check_host(
    resolver: Resolver,
    client: IpAddress,
    domain: str,
    sender: str,
    *,
    helo: str | None = None,
    receiver: str | None = None,
    timestamp: int = 0,
) -> Verdict:
    """Whether `client` may send for `domain`, as MAIL FROM or HELO identity.

    `sender` is the reverse-path, `local@domain`; without a local part it counts as postmaster's. `helo`, `receiver` and
    `timestamp` (seconds since 1970) are for macros only.
    """
    evaluation = _Evaluation(resolver, client, sender, helo, receiver, timestamp)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await evaluation.check(ascii_domain(domain) or domain)
    except _Undecided as error:
        return Verdict(error.result, problem=error.problem)
    except TimeoutError:
        return Verdict(Result.TEMPERROR, problem=f"no verdict within {MAX_SECONDS:g} seconds")


class _Undecided(KoukanError):
    """The evaluation ends with temperror or permerror."""

    def __init__(self, result: Result, problem: str) -> None:
        super().__init__(problem)
        self.result = result
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _Decision:
    """What one record, with those it redirects to, has said."""

    result: Result
    domain: str
    mechanism: str | None = None
    record: Record | None = None


class _Evaluation:
    """One check_host() with what it has used up so far."""

    def __init__(
        self,
        resolver: Resolver,
        client: IpAddress,
        sender: str,
        helo: str | None,
        receiver: str | None,
        timestamp: int,
    ) -> None:
        self._resolver = resolver
        self._client = client if isinstance(client, IPv4Address) else client.ipv4_mapped or client
        self._values = _macro_values(self._client, sender, helo, receiver, timestamp)
        self._lookups = 0
        self._voids = 0
        self._names: Answer[str] | None = None

    async def check(self, domain: str) -> Verdict:
        decision = await self._evaluate(domain)
        explanation = await self._explain(decision) if decision.result is Result.FAIL else None
        return Verdict(decision.result, decision.mechanism, explanation)

    async def _evaluate(self, domain: str) -> _Decision:
        record = await self._record(domain)
        if record is None:
            return _Decision(Result.NONE, domain)
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                return _Decision(mechanism.qualifier, domain, mechanism.text, record)
        if record.redirect is None:
            return _Decision(Result.NEUTRAL, domain, "default", record)
        self._count_lookup()
        target = await self._expand(record.redirect, domain)
        decision = await self._evaluate(target)
        if decision.result is Result.NONE:
            raise _Undecided(
                Result.PERMERROR, f"{target[:100]!a}, which {domain[:100]!a} redirects to, has no SPF record"
            )
        return decision

    async def _record(self, domain: str) -> Record | None:
        if not _possible_domain(domain):
            return None
        answer = await self._resolver.txt(_dns_name(domain))
        if answer.failed:
            raise _dns_trouble(domain)
        records = select_records(answer.records)
        if not records:
            return None
        if len(records) > 1:
            raise _Undecided(Result.PERMERROR, f"{domain[:100]!a} has {len(records)} SPF records")
        try:
            return parse_record(records[0])
        except InvalidRecord as error:
            raise _Undecided(Result.PERMERROR, f"SPF record of {domain[:100]!a}: {error}") from None

    # --- mechanisms (§5) ------------------------------------------------------------------------------------------------

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        if mechanism.name == "all":
            return True
        if mechanism.network is not None:
            return self._client in mechanism.network
        self._count_lookup()
        target = domain if mechanism.domain is None else await self._expand(mechanism.domain, domain)
        if mechanism.name == "include":
            return await self._include(target)
        if mechanism.name != "ptr" and not _is_name(target):
            return False  # nothing to ask: no match, and no void term either
        if mechanism.name == "a":
            return await self._a(target, mechanism)
        if mechanism.name == "mx":
            return await self._mx(target, mechanism)
        if mechanism.name == "ptr":
            return await self._ptr(target)
        return self._note_void(await self._ask(self._resolver.a, _dns_name(target))).ok

    async def _include(self, target: str) -> bool:
        decision = await self._evaluate(target)
        if decision.result is Result.NONE:
            raise _Undecided(Result.PERMERROR, f"{target[:100]!a}, which is included, has no SPF record")
        return decision.result is Result.PASS

    async def _a(self, target: str, mechanism: Mechanism) -> bool:
        return self._in_network(self._note_void(await self._addresses(_dns_name(target))), mechanism)

    async def _mx(self, target: str, mechanism: Mechanism) -> bool:
        """The term is void when all that it asked has brought no address: IPv4 hosts have none for an IPv6 client."""
        answer = await self._ask(self._resolver.mx, _dns_name(target))
        if len(answer.records) > MAX_NAMES:
            raise _Undecided(Result.PERMERROR, f"{target[:100]!a} has more than {MAX_NAMES} mail exchangers")
        void = True
        for mx in sorted(answer.records):
            if mx.exchange != ".":
                addresses = await self._addresses(mx.exchange)
                if self._in_network(addresses, mechanism):
                    return True
                void = void and not addresses.ok
        if void:
            self._count_void()
        return False

    async def _ptr(self, target: str) -> bool:
        answer = await self._client_names()
        if not answer.failed:
            self._note_void(answer)
        for name in answer.records:
            if _is_within(name, target) and await self._is_clients(name):
                return True
        return False

    def _in_network(self, answer: Answer[IpAddress], mechanism: Mechanism) -> bool:
        prefix = mechanism.prefix4 if isinstance(self._client, IPv4Address) else mechanism.prefix6
        shift = self._client.max_prefixlen - prefix
        wanted = int(self._client) >> shift
        return any(int(address) >> shift == wanted for address in answer.records)

    # --- DNS ------------------------------------------------------------------------------------------------------------

    async def _ask(self, look_up: Callable[[str], Awaitable[Answer[T]]], name: str) -> Answer[T]:
        answer = await look_up(name)
        if answer.failed:
            raise _dns_trouble(name)
        return answer

    async def _addresses(self, name: str) -> Answer[IpAddress]:
        """The addresses of the client's own family."""
        if isinstance(self._client, IPv4Address):
            return await self._ask(self._resolver.a, name)
        return await self._ask(self._resolver.aaaa, name)

    async def _client_names(self) -> Answer[str]:
        """The first names of the client, not validated yet; no trouble with them is an error (§5.5)."""
        if self._names is None:
            answer = await self._resolver.ptr(self._client)
            self._names = replace(answer, records=answer.records[:MAX_NAMES])
        return self._names

    async def _is_clients(self, name: str) -> bool:
        resolver = self._resolver
        answer = await (resolver.a(name) if isinstance(self._client, IPv4Address) else resolver.aaaa(name))
        return self._client in answer.records

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _Undecided(Result.PERMERROR, f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _note_void(self, answer: Answer[T]) -> Answer[T]:
        """The one answer of a term."""
        if not answer.ok:
            self._count_void()
        return answer

    def _count_void(self) -> None:
        self._voids += 1
        if self._voids > MAX_VOIDS:
            raise _Undecided(Result.PERMERROR, f"more than {MAX_VOIDS} terms whose DNS questions have no answer")

    # --- macros (§7) and explanations (§6.2) ------------------------------------------------------------------------------

    async def _expand(self, spec: MacroString, domain: str) -> str:
        return spec.expand_domain(await self._values_for(spec, domain)).removesuffix(".")

    async def _values_for(self, spec: MacroString, domain: str) -> Mapping[str, str]:
        values = {**self._values, "d": domain}
        if "p" in spec.letters:
            values["p"] = await self._validated_name(domain)
        return values

    async def _validated_name(self, domain: str) -> str:
        """The client's name, if possible the domain's own or one below it (§7.3)."""
        answer = await self._client_names()
        for name in sorted(answer.records, key=lambda n: (not _is_within(n, domain), len(n))):
            if await self._is_clients(name):
                return name.removesuffix(".")
        return "unknown"

    async def _explain(self, decision: _Decision) -> str | None:
        if decision.record is None or decision.record.exp is None:
            return None
        target = await self._expand(decision.record.exp, decision.domain)
        records = (await self._resolver.txt(_dns_name(target))).records
        if len(records) != 1 or len(records[0]) > MAX_RECORD:
            return None
        try:
            spec = parse_macros(records[0].decode("ascii"), explanation=True)
        except (InvalidRecord, UnicodeDecodeError):
            return None
        text = spec.expand_text(await self._values_for(spec, decision.domain), MAX_EXPLANATION)
        return text if text and text.isascii() and text.isprintable() else None


def _macro_values(
    client: IpAddress, sender: str, helo: str | None, receiver: str | None, timestamp: int
) -> dict[str, str]:
    local, _, domain = sender.rpartition("@")
    # Two quotes with nothing between them are no local part either (§4.3).
    local, domain = POSTMASTER if local in ("", '""') else local, ascii_domain(domain) or domain
    v4 = isinstance(client, IPv4Address)
    return {
        "s": f"{local}@{domain}",
        "l": local,
        "o": domain,
        "i": str(client) if v4 else ".".join(client.exploded.upper().replace(":", "")),
        "v": "in-addr" if v4 else "ip6",
        "h": (ascii_domain(helo) if helo else None) or "unknown",
        "c": str(client),
        "r": receiver or "unknown",
        "t": str(timestamp),
    }


def _possible_domain(domain: str) -> bool:
    """Whether it can have a record: a name of several labels (§4.3)."""
    return "." in domain.removesuffix(".") and _is_name(domain)


def _is_name(text: str) -> bool:
    """Whether it is a name that DNS could have: no label is empty or too long."""
    labels = text.removesuffix(".").split(".")
    fits = text.isascii() and len(text) <= _MAX_DOMAIN + text.endswith(".")
    return fits and all(0 < len(label) <= _MAX_LABEL for label in labels)


def _dns_name(text: str) -> str:
    """A name as the resolver reads it; nothing where it holds a local part that is not ASCII, which is nobody's (RFC 8616)."""
    return text.replace("\\", "\\\\") if text.isascii() else ""


def _is_within(name: str, domain: str) -> bool:
    name, domain = name.lower().removesuffix("."), domain.lower().removesuffix(".")
    return name == domain or name.endswith(f".{domain}")


def _dns_trouble(name: str) -> _Undecided:
    return _Undecided(Result.TEMPERROR, f"DNS cannot say now: {name[:100]!a}")
