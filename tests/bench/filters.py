"""CPU milliseconds per message of the filters that look into a message, 4 KB of text: `python -m tests.bench.filters`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import process_time

from koukan.blob.bodies import BytesBody
from koukan.chain.engine import Chain
from koukan.chain.filter import Context
from koukan.config.router import DnsConfig
from koukan.model import Mailbox, Step
from koukan.net.dns import Resolver
from tests.support.chains import RecordingSink, make_chain, make_context, make_transaction
from tests.support.dkim_keys import ed25519_key, rsa_key
from tests.support.nameserver import NameServer

ROUNDS = 500
_HEAD = (
    b"Received: from a.example (a.example [192.0.2.1])\r\n\tby mx.example with ESMTPS id 1234 for <b@b.example>;\r\n"
    b"\tSat, 31 Jan 2026 12:00:00 +0000\r\n"
    b"From: Ann <ann@example.com>\r\nTo: Bob <bob@example.org>, Carol <carol@example.org>\r\n"
    b"Subject: a subject of the usual length for mail\r\nDate: Sat, 31 Jan 2026 12:00:00 +0000\r\n"
    b"Message-ID: <m1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\n"
    b"Content-Transfer-Encoding: 7bit\r\nUser-Agent: Test/1.0\r\n\r\n"
)
_LINE = b"some text of a line that is as long as lines are, about seventy characters\r\n"
MESSAGE = _HEAD + _LINE * ((4096 - len(_HEAD)) // len(_LINE))
_ROUTER = {"filter": "router", "destination": {"endpoint": "gateway"}}
_ENDPOINT = {"name": "gateway", "endpoint": "http://gateway.invalid/"}


async def run(chain: Chain, message: bytes = MESSAGE) -> None:
    tx = make_transaction()
    await chain.open(tx).step(Step(Mailbox("ann@example.com"), [Mailbox("bob@example.org")], BytesBody(message)))


async def measure(name: str, work: Callable[[], Awaitable[None]], without: float = 0.0) -> float:
    """Print, and return, milliseconds per round less `without`, the cost of what surrounds the work."""
    await work()
    began = process_time()
    for _ in range(ROUNDS):
        await work()
    cost = (process_time() - began) / ROUNDS * 1000 - without
    sys.stdout.write(f"{name:48} {cost:7.3f} ms\n")
    return cost


async def measure_all(context: Context, signatures: dict[str, dict[str, object]]) -> None:
    def chain(*items: dict[str, object]) -> Chain:
        return make_chain(items, RecordingSink(), context)

    received: dict[str, object] = {"filter": "received_header", "received_hostname": "mx.example.org"}
    validation: dict[str, object] = {"filter": "message_validation"}
    nothing = chain()
    empty = await measure("a chain without filters", partial(run, nothing))
    chains = {
        "message_validation": chain(validation),
        "received_header": chain(received),
        "message_validation + received_header + router": chain(validation, received, _ROUTER),
        "authentication_results": chain({"filter": "authentication_results", "authserv_id": "mx.example.org"}),
    }
    for name, measured in chains.items():
        await measure(name, partial(run, measured), empty)
    check = chain({"filter": "dkim_check"})
    for name, options in signatures.items():
        sink = RecordingSink()
        signing = make_chain([options], sink, context)
        await measure(f"dkim_sign, {name}", partial(run, signing), empty)
        signed = sink.bodies[0]
        await measure(f"dkim_check, {name}, key in the cache", partial(run, check, signed), empty)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        zone, signatures = "", {}
        for name, key in {"RSA-2048": rsa_key(), "RSA-1024": rsa_key(1024), "Ed25519": ed25519_key()}.items():
            path = key.write(Path(directory) / name)
            entry = {"domain": "example.com", "selector": name.lower(), "key": path}
            signatures[name] = {"filter": "dkim_sign", "keys": [entry]}
            zone += key.zone("example.com", name.lower())
        async with NameServer(zone) as server:
            resolver = Resolver(DnsConfig(nameservers=[server.address]))
            await measure_all(make_context(resolver, rest_endpoint=[_ENDPOINT]), signatures)


if __name__ == "__main__":
    asyncio.run(main())
