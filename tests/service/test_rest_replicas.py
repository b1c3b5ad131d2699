"""Routers around one database: redirects to the owner, any replica for what nobody holds; and a listener with TLS."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from koukan.dev.files import prepare
from tests.support.house import House, quick_end
from tests.support.smtp_dialogue import message
from tests.support.wire import JSON, Peer, body_uri, request

ENVELOPE = {"mail_from": {"m": "ann@example.net"}, "rcpt_to": [{"m": "bob@example.com"}]}
MESSAGE = message("rest")


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[tuple[House, House]]:
    """Two houses around one database."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with (
        House(tmp_path / "one", postgres_url, quick_end, quick_end) as one,
        House(tmp_path / "two", postgres_url, quick_end, quick_end) as two,
    ):
        yield one, two


@pytest.mark.parametrize("sender", [("submission", None), ("ingress", "smtp-mx")])
async def test_another_replica_points_to_the_owner(pair: tuple[House, House], sender: tuple[str, str | None]) -> None:
    one, two = pair
    name, tag = sender
    document = {**ENVELOPE, **({} if tag is None else {"sender": {"tag": tag}})}
    location, created = await Peer(one.rest).create(name, document)
    elsewhere = location.replace(one.rest, two.rest)
    for method, path in (("GET", ""), ("PATCH", ""), ("PUT", "/body"), ("POST", "/cancel")):
        reply = await request(method, elsewhere + path, None if method == "GET" else b"", {"if-match": "1"})
        assert (reply.status, reply.headers["location"], reply.body) == (308, location + path, b"")
    assert created.status == 201


@pytest.mark.parametrize("tx_id", ["%00", "ffffffff-x", "80000000-x", "ffffffffffffffffff-x", "1-%00", "0-x"])
async def test_ids_that_cannot_be_are_404_with_postgresql_too(pair: tuple[House, House], tx_id: str) -> None:
    for method, path in (("GET", ""), ("PUT", "/body"), ("PUT", "/blob/%00")):
        reply = await request(method, f"{pair[0].rest}/transactions/{tx_id}{path}", None if method == "GET" else b"x")
        assert reply.status == 404, reply.text
    document = json.dumps({**ENVELOPE, "body": {"reuse_uri": f"/transactions/{tx_id}/body"}}).encode()
    reply = await request("POST", f"{pair[0].rest}/senders/submission/transactions", document, JSON)
    assert reply.status == 400, reply.text


async def test_any_replica_serves_what_nobody_holds(pair: tuple[House, House]) -> None:
    one, two = pair
    location, created = await Peer(one.rest).create("submission", ENVELOPE)
    await Peer(one.rest).put(body_uri(created), MESSAGE[:50], {"content-range": "bytes 0-49/*"})
    await one.router.stop()
    elsewhere = location.replace(one.rest, two.rest)
    seen = await request("GET", elsewhere)
    assert seen.status == 200 and seen.json["body"]["blob_status"]["uri"].startswith(two.rest)
    rest = {"content-range": f"bytes 50-{len(MESSAGE) - 1}/{len(MESSAGE)}"}
    assert (await request("PUT", f"{elsewhere}/body", MESSAGE[50:], rest)).status == 200
    await two.arrived(1)
    assert two.sink.received[0].content.endswith(MESSAGE)
    await one.start_router()
    reply = await request("GET", location)
    assert reply.status == 200 and reply.json["attempt_count"] == 2


async def test_the_listener_speaks_tls_when_it_has_a_certificate(tmp_path: Path, sqlite_url: str) -> None:
    prepare(tmp_path)

    def with_tls(document: dict[str, Any]) -> None:
        listener = document["rest_listener"]
        listener.update(cert=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
        listener["session_uri"] = listener["session_uri"].replace("http:", "https:")

    trusting = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    trusting.check_hostname = False
    async with House(tmp_path, sqlite_url, with_tls) as house:
        peer = Peer(house.rest.replace("http:", "https:"), trusting)
        location, created = await peer.create("submission", ENVELOPE)
        assert location.startswith("https://") and body_uri(created).startswith("https://")
        await peer.put(body_uri(created), MESSAGE)
        await peer.until(location, "final_attempt_reason")
