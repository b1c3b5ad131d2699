"""Mail in trouble: connections cut at every stage, slow clients, a database that goes away, bounds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from koukan.model import HostPort
from tests.support.cutting import CuttingRelay
from tests.support.house import LOOPBACK, House, eventually
from tests.support.smtp_dialogue import Dialogue, message, send

#: messages at a time, and bytes of each: larger than what is kept in memory or sent in one piece anywhere
AT_ONCE = 50
SIZE = 150_000

_DIGEST = re.compile(rb"X-Digest: (\w+)\r\n\r\n")


def checked(number: int, size: int = SIZE) -> bytes:
    """A message that says what its body must be."""
    line = f"{number:05} {'x' * 70}\r\n".encode()
    body = line * (size // len(line))
    head = message(f"m{number}", "")[:-2]
    return head + b"X-Digest: " + hashlib.sha256(body).hexdigest().encode() + b"\r\n\r\n" + body


def whole(content: bytes) -> bool:
    """Whether a message arrived as it was sent."""
    found = _DIGEST.search(content)
    assert found is not None
    return hashlib.sha256(content[found.end() :]).hexdigest().encode() == found[1]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def attempt(address: HostPort, number: int) -> int | None:
    """The code of the last reply to a message; None: the connection broke."""
    try:
        replies = await send(address, "ann@example.net", ["bob@example.com"], checked(number))
    except (OSError, asyncio.IncompleteReadError, ValueError):
        return None
    return max(reply.code for reply in replies)


async def all_quiet(house: House) -> None:
    """Nothing is in flight any more, and all of it ends by itself."""
    await eventually(lambda: not house.gateway.service.busy and not house.router.dispatcher.busy, 30)
    assert len(house.gateway.ingress) == 0


def budgets(seed: int) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield rng.choice([rng.randrange(1, 3000), rng.randrange(1, 2 * SIZE)])


HOPS = ["client-gateway", "gateway-router", "router-gateway", "gateway-sink"]


@pytest.mark.parametrize("mode", ["mx", "msa"])
@pytest.mark.parametrize("hop", HOPS)
async def test_connections_cut_anywhere(hop: str, mode: str, tmp_path: Path, sqlite_url: str) -> None:
    relays = {name: CuttingRelay(HostPort(LOOPBACK, 1)) for name in HOPS}

    def router(document: dict[str, Any]) -> None:
        # The whole conversation goes through the relays, not only its first request.
        document["rest_listener"]["session_uri"] = f"http://{LOOPBACK}:{relays['gateway-router'].address.port}"
        host = document["endpoint"][2]["chain"][3]["destination"]["host_list"][0]
        relays["gateway-sink"].target = HostPort(LOOPBACK, host["port"])
        host["port"] = relays["gateway-sink"].address.port
        document["rest_endpoint"][0]["endpoint"] = (
            f"http://{LOOPBACK}:{relays['router-gateway'].address.port}/senders/router/transactions"
        )
        for endpoint in document["endpoint"]:
            endpoint.setdefault("output_handler", {})["downstream_timeout"] = 2

    def gateway(document: dict[str, Any]) -> None:
        for output in document["rest_output"]:
            output["endpoint"] = output["endpoint"].replace(
                f":{house.router_port}/", f":{relays['gateway-router'].address.port}/"
            )
        document["rest_listener"].update(
            gc_tx_ttl=5, session_uri=f"http://{LOOPBACK}:{relays['router-gateway'].address.port}"
        )
        document["rest_output"][0]["refresh_interval"] = document["rest_output"][1]["refresh_interval"] = 1

    async with contextlib.AsyncExitStack() as stack:
        for relay in relays.values():
            await stack.enter_async_context(relay)
        house = House(tmp_path, sqlite_url, router, gateway)
        await stack.enter_async_context(house)
        relays["gateway-router"].target = HostPort(LOOPBACK, house.router_port)
        relays["router-gateway"].target = HostPort(LOOPBACK, house.gateway_port)
        relays["client-gateway"].target = house.mx if mode == "mx" else house.msa
        entrance = relays["client-gateway"].address
        assert await attempt(entrance, 99999) == 250
        for relay in relays.values():
            relay.cut()  # with what is kept for the next message
        await eventually(lambda: not any(relay.open for relay in relays.values()), 10)
        before = descriptors()

        relays[hop].budgets = budgets(HOPS.index(hop))
        codes: list[int | None] = []
        while relays[hop].cuts <= 5:  # how many connections a round makes depends on how busy the machine is
            assert len(codes) < 10 * AT_ONCE
            codes += await asyncio.gather(*(attempt(entrance, len(codes) + number) for number in range(AT_ONCE)))
        relays[hop].budgets = None
        await all_quiet(house)

        accepted = {f"m{number}" for number, code in enumerate(codes) if code == 250}
        assert all(code is None or code < 500 for code in codes)
        await eventually(lambda: accepted <= {mail.subject for mail in house.sink.received}, 30)
        assert all(whole(mail.content) for mail in house.sink.received)

        def nothing_left() -> bool:
            for relay in relays.values():
                relay.cut()  # attempts from the queue may have come in between
            return descriptors() <= before

        await eventually(nothing_left, 30)


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, database_url) as house:
        yield house


async def test_no_descriptor_stays_open_after_a_thousand_messages(tmp_path: Path, sqlite_url: str) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()

    def spool_here(document: dict[str, Any]) -> None:
        document["global"]["spool_directory"] = str(spool)

    def spooled() -> int:
        links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return sum(str(spool) in str(link.readlink()) for link in links)

    async with House(tmp_path, sqlite_url, spool_here) as house:
        await attempt(house.mx, 0)
        before = descriptors()
        for _ in range(20):
            codes = await asyncio.gather(*(attempt(house.msa, number) for number in range(AT_ONCE)))
            assert set(codes) == {250}
        # What is kept for the next message may stay: connections between the parts, at most as many as were busy at once.
        await all_quiet(house)
        await eventually(lambda: descriptors() <= before + 4 * AT_ONCE, 30)
        assert not spooled()


def impatient(document: dict[str, Any]) -> None:
    for endpoint in document["endpoint"]:
        endpoint.setdefault("output_handler", {}).update(downstream_timeout=1, upstream_refresh=0.5)


def quick(document: dict[str, Any]) -> None:
    for output in document["rest_output"]:
        output["refresh_interval"] = 0.2
    for service in document["smtp_listener"]["services"]:
        service["data_timeout"] = 2


async def test_a_slow_client_is_no_dead_client(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent for longer than downstream_timeout before every command and within the message, which takes longer than
    data_timeout: the gateway's heartbeats tell the router that it is still there."""
    monkeypatch.setattr("koukan.gateway.ingress._TICK", 0.1)
    monkeypatch.setattr("koukan.router.dispatcher.TICK", 0.1)
    big = checked(1, 200_000)
    async with House(tmp_path, sqlite_url, impatient, quick) as house, Dialogue.open(house.mx) as client:
        pause = 1.5
        for command in ("MAIL FROM:<ann@example.net>", "RCPT TO:<bob@example.com>"):
            assert (await client.command(command)).code == 250
            await asyncio.sleep(pause)
        assert (await client.command("DATA")).code == 354
        for part in (big[:100_000], big[100_000:150_000], big[150_000:], b".\r\n"):
            client.writer.write(part)
            await asyncio.sleep(pause)
        assert (await client.reply()).code == 250
        assert [whole(mail.content) for mail in house.sink.received] == [True]


def strict(document: dict[str, Any]) -> None:
    for service in document["smtp_listener"]["services"]:
        service["limits"] = {"data_timeout": 0.5}


async def test_silence_within_a_message_ends_it_everywhere(tmp_path: Path, sqlite_url: str) -> None:
    async with House(tmp_path, sqlite_url, change_gateway=strict) as house, Dialogue.open(house.mx) as client:
        await client.envelope("ann@example.net", ["bob@example.com"])
        assert (await client.command("DATA")).code == 354
        client.writer.write(checked(1)[:100_000])
        assert (await client.reply()).code == 421
        await all_quiet(house)
        assert not house.sink.received


@pytest.mark.parametrize(("sender", "code"), [("mailtemp", 450), ("mailperm", 550)])
async def test_what_follows_a_failure_has_its_class(sender: str, code: int, tmp_path: Path, sqlite_url: str) -> None:
    async with House(tmp_path, sqlite_url) as house, Dialogue.open(house.mx) as client:
        await client.envelope(f"{sender}@example.net", ["bob@example.com"])
        assert (await client.command("DATA")).code == code
        await client.command("RSET")
        assert (await client.command("DATA")).code == 503
