"""A name server on loopback, UDP and TCP on one port, that answers from a zone and misbehaves on request.

A zone is text, a record a line: `name [ttl] TYPE data`, names absolute with or without a trailing dot. `*` as the first label
matches what has no entry of its own; a CNAME is followed within the zone. In the place of data:

    !servfail  !refused  !nxdomain      that answer
    !silent                             no answer at all
    !truncated DATA                     UDP says: ask again over TCP, which gets DATA
    !delay SECONDS DATA                 DATA, late

Records come in the order of the zone. A name without entries does not exist; one without entries of that type has no
data. Both carry an SOA with the zone's `negative_ttl`. As a process: `python -m tests.support.nameserver ZONEFILE
[--port N]` prints `listening on ADDRESS:PORT`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

DEFAULT_TTL = 300
_ROOT = Path(__file__).parents[2]
_RCODES = {"!servfail": dns.rcode.SERVFAIL, "!refused": dns.rcode.REFUSED, "!nxdomain": dns.rcode.NXDOMAIN}
_SOA = "ns.invalid. hostmaster.invalid. 1 7200 3600 86400 {}"


@dataclass
class RecordSet:
    """What the zone has for one name and type."""

    ttl: int = DEFAULT_TTL
    data: list[dns.rdata.Rdata] = field(default_factory=list)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    silent: bool = False
    truncated: bool = False
    delay: float = 0.0


Zone = dict[dns.name.Name, dict[dns.rdatatype.RdataType, RecordSet]]


def parse_zone(text: str) -> Zone:
    zone: Zone = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(";"):
            _parse_line(zone, line.strip())
    return zone


def _parse_line(zone: Zone, line: str) -> None:
    owner, rest = line.split(maxsplit=1)
    first, tail = rest.split(maxsplit=1)
    ttl = DEFAULT_TTL
    if first.isdigit():
        ttl = int(first)
        first, tail = tail.split(maxsplit=1)
    rdtype = dns.rdatatype.from_text(first)
    records = zone.setdefault(dns.name.from_text(owner), {}).setdefault(rdtype, RecordSet(ttl))
    behaviour, _, rest = tail.partition(" ")
    if behaviour in _RCODES:
        records.rcode = _RCODES[behaviour]
        return
    if behaviour == "!silent":
        records.silent = True
        return
    if behaviour == "!truncated":
        records.truncated, tail = True, rest
    elif behaviour == "!delay":
        seconds, _, tail = rest.partition(" ")
        records.delay = float(seconds)
    records.data.append(dns.rdata.from_text(dns.rdataclass.IN, rdtype, tail, origin=dns.name.root, relativize=False))


class NameServer:
    """Serves a zone between `start` and `stop`, or as an asynchronous context manager."""

    def __init__(self, zone: str = "", *, negative_ttl: int = 60) -> None:
        self.zone = parse_zone(zone)
        self.negative_ttl = negative_ttl
        #: how often each question came, by name without trailing dot and type
        self.queries: Counter[tuple[str, str]] = Counter()
        #: set by every question
        self.asked = asyncio.Event()
        #: the UDP payload size that the last question offered by EDNS, 0 without
        self.last_payload = 0
        #: put the end of an alias into the same response, as a recursive server does
        self.follow_aliases = True
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, as it goes into `dns.nameservers`."""
        return f"127.0.0.1:{self.port}"

    def load(self, zone: str) -> None:
        """Answer from another zone from now on."""
        self.zone = parse_zone(zone)

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._tcp, self._udp = await self._bind(loop, port)

    async def stop(self) -> None:
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tcp.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _bind(
        self, loop: asyncio.AbstractEventLoop, port: int
    ) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
        while True:
            tcp = await asyncio.start_server(self._converse, "127.0.0.1", port)
            self.port = tcp.sockets[0].getsockname()[1]
            try:
                udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port)
                )
            except OSError:
                tcp.close()
                if port:
                    raise
            else:
                return tcp, udp

    def spawn(self, wire: bytes, transport: asyncio.DatagramTransport, peer: tuple[str, int]) -> None:
        """Answer one datagram."""

        async def answer() -> None:
            response = await self.respond(wire, udp=True)
            if response is not None:
                transport.sendto(response, peer)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                response = await self.respond(await reader.readexactly(size), udp=False)
                if response is not None:
                    writer.write(len(response).to_bytes(2, "big") + response)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def respond(self, wire: bytes, *, udp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        self.asked.set()
        self.queries[question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)] += 1
        self.last_payload = query.payload
        response = dns.message.make_response(query, recursion_available=True)
        records = self._answer(response, question.name, question.rdtype)
        if records is not None:
            await asyncio.sleep(records.delay)
            if records.silent:
                return None
            if records.truncated and udp:
                response.answer.clear()
                response.flags |= dns.flags.TC
        return response.to_wire(max_size=65535, want_shuffle=False)

    def _answer(
        self, response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> RecordSet | None:
        for _ in range(20):
            entries = self._entries(name)
            if entries is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            records = entries.get(rdtype)
            alias = entries.get(dns.rdatatype.CNAME)
            found = records or alias
            if found is None:
                break
            response.set_rcode(found.rcode)
            if found.data:
                response.answer.append(dns.rrset.from_rdata_list(name, found.ttl, found.data))
            if records is not None or not found.data or not self.follow_aliases:
                return found
            name = found.data[0].target
        self._deny(response)
        return None

    def _entries(self, name: dns.name.Name) -> dict[dns.rdatatype.RdataType, RecordSet] | None:
        if name in self.zone:
            return self.zone[name]
        if any(owner.is_subdomain(name) for owner in self.zone):
            return {}
        while name != dns.name.root:
            name = name.parent()
            wildcard = dns.name.Name((b"*", *name.labels))
            if wildcard in self.zone:
                return self.zone[wildcard]
        return None

    def _deny(self, response: dns.message.Message) -> None:
        soa = _SOA.format(self.negative_ttl)
        response.authority.append(
            dns.rrset.from_text(dns.name.root, self.negative_ttl, dns.rdataclass.IN, dns.rdatatype.SOA, soa)
        )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every event loop derives its transports from this class.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.spawn(data, self._transport, addr)


@asynccontextmanager
async def name_server_process(zone: str, directory: Path) -> AsyncIterator[str]:
    """A name server in a process of its own; its address as it goes into `dns.nameservers`."""
    path = directory / "zone.txt"
    path.write_text(zone, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.nameserver", str(path), stdout=asyncio.subprocess.PIPE, cwd=_ROOT
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()


async def _serve(zone: str, port: int) -> None:
    server = NameServer(zone)
    await server.start(port)
    sys.stdout.write(f"listening on {server.address}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A name server for tests.")
    parser.add_argument("zonefile", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    asyncio.run(_serve(options.zonefile.read_text(encoding="utf-8"), options.port))


if __name__ == "__main__":
    main()
