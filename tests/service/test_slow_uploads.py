"""Clients that are slow with a body or pause within it: what is answered 200 is delivered, what has ended takes no bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.house import House, becomes, eventually, quick_end
from tests.support.wire import Peer, body_uri, request

#: seconds that a client may be silent
PATIENCE = 0.6
MESSAGE = b"Subject: slow\r\n\r\n" + b"x" * 60 + b"\r\n"
ENVELOPE = {"mail_from": {"m": "ann@example.net"}}
ONE_SHOT = {**ENVELOPE, "rcpt_to": [{"m": "bob@example.com"}]}
INTERACTIVE = {**ONE_SHOT, "sender": {"tag": "smtp-mx"}}


def impatient(document: dict[str, Any]) -> None:
    quick_end(document)
    for endpoint in document["endpoint"]:
        endpoint.setdefault("output_handler", {})["downstream_timeout"] = PATIENCE


@pytest.fixture
async def house(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr("koukan.router.dispatcher.TICK", 0.1)
    async with House(tmp_path, database_url, impatient) as house:
        yield house


@pytest.fixture
def peer(house: House) -> Peer:
    return Peer(house.rest)


@asynccontextmanager
async def upload(uri: str, length: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A PUT whose bytes the test sends itself."""
    parts = urlsplit(uri)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"PUT {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    return int((await reader.read()).split(b" ", 2)[1])


async def ended_or_waiting(house: House) -> None:
    """The client was given up."""
    await eventually(lambda: all(d.resource.timed_out or d.resource.ended for d in _deliveries(house)))


def _deliveries(house: House) -> list[Any]:
    return list(house.router.dispatcher.deliveries.values())


@pytest.mark.parametrize(("sender", "document"), [("submission", ONE_SHOT), ("ingress", INTERACTIVE)])
async def test_every_byte_is_a_sign_of_life(house: House, peer: Peer, sender: str, document: dict[str, Any]) -> None:
    _, created = await peer.create(sender, document)
    async with upload(body_uri(created), len(MESSAGE)) as (reader, writer):
        for position in range(0, len(MESSAGE), 10):
            writer.write(MESSAGE[position : position + 10])
            await asyncio.sleep(PATIENCE / 4)
        assert await status(reader) == 200
    await house.arrived(1)
    assert house.sink.received[0].subject == "slow"


@pytest.mark.parametrize("ranged", [False, True])
async def test_a_durable_transaction_waits_for_the_rest_of_its_bytes(house: House, peer: Peer, ranged: bool) -> None:
    location, created = await peer.create("submission", ONE_SHOT)
    uri = body_uri(created)
    if ranged:
        await peer.put(uri, MESSAGE[:20], {"content-range": "bytes 0-19/*"})
        await ended_or_waiting(house)
        rest = {"content-range": f"bytes 20-{len(MESSAGE) - 1}/{len(MESSAGE)}"}
        assert (await peer.put(uri, MESSAGE[20:], rest)).status == 200
    else:
        async with upload(uri, len(MESSAGE)) as (reader, writer):
            writer.write(MESSAGE[:20])
            await ended_or_waiting(house)
            assert "final_attempt_reason" not in (await peer.get(location)).json
            writer.write(MESSAGE[20:])
            assert await status(reader) == 200
    await house.arrived(1)

    async def delivered() -> bool:
        reason = (await request("GET", location)).json.get("final_attempt_reason")
        return bool(reason == "upstream response success")

    await becomes(delivered)
    assert house.sink.received[0].content.endswith(MESSAGE)


async def test_an_interactive_transaction_that_has_ended_refuses_bytes(house: House, peer: Peer) -> None:
    location, created = await peer.create("ingress", INTERACTIVE)
    async with upload(body_uri(created), len(MESSAGE)) as (reader, writer):
        writer.write(MESSAGE[:20])
        await ended_or_waiting(house)
        writer.write(MESSAGE[20:])
        assert await status(reader) == 409
    done = await peer.until(location, "final_attempt_reason")
    assert done.json["final_attempt_reason"] == "downstream timeout"
    assert not house.sink.received


async def test_the_answer_to_a_late_upload_shows_it(house: House, peer: Peer) -> None:
    """It was read before the upload, and nobody works on the transaction."""
    _, created = await peer.create("submission", ONE_SHOT)
    await ended_or_waiting(house)
    await eventually(lambda: not _deliveries(house))
    reply = await request("PUT", body_uri(created), MESSAGE, {"prefer": "wait=5"})
    assert reply.status == 200 and reply.json["body"]["blob_status"]["finalized"] is True
    await house.arrived(1)
