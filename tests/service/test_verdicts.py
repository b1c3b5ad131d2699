"""A signed message by SMTP and by REST through a router that checks it: one path, one verdict, one header."""

from __future__ import annotations

import email
from collections.abc import AsyncIterator
from email import policy
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from koukan.auth.dkim.hashing import read_message
from koukan.auth.dkim.keys import KeyFile
from koukan.auth.dkim.sign import Signer, new_body_hash
from koukan.blob.bodies import BytesBody
from tests.support.dkim_keys import KeyPair, rsa_key
from tests.support.house import House, eventually
from tests.support.nameserver import name_server_process
from tests.support.smtp_dialogue import message, send

ZONE = """
1.0.0.127.in-addr.arpa  PTR   client.example.
client.example          A     127.0.0.1
example.net             TXT   "v=spf1 a:client.example -all"
"""
FORGED = b"Authentication-Results: mx.example.com; dkim=pass header.d=bank.example\r\n"
CHECKS = [
    {"filter": "remote_host"},
    {"filter": "spf_check"},
    {"filter": "message_validation"},
    {"filter": "dkim_check"},
    {"filter": "authentication_results", "authserv_id": "mx.example.com"},
]


@pytest.fixture(scope="module")
def key() -> KeyPair:
    return rsa_key()


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str, key: KeyPair) -> AsyncIterator[House]:
    async with name_server_process(ZONE + key.zone("example.net", "s1"), tmp_path) as address:

        def with_checks(document: dict[str, Any]) -> None:
            document["global"]["dns"] = {"nameservers": [address]}
            document["endpoint"][2]["chain"][1:1] = CHECKS

        async with House(tmp_path, sqlite_url, with_checks) as house:
            yield house


async def signed(key: KeyPair, directory: Path) -> bytes:
    content = message("signed")
    body_hash = new_body_hash()
    headers = await read_message(BytesBody(content), lambda _: [body_hash])
    signer = Signer("example.net", "s1", KeyFile(key.write(directory / "key.pem")))
    return await signer.sign(headers, body_hash.digest(), 1_700_000_000) + content


def results(content: bytes) -> list[str]:
    parsed = email.message_from_bytes(content, policy=policy.SMTP)
    return [" ".join(str(value).split()) for value in parsed.get_all("authentication-results", [])]


@pytest.mark.parametrize(
    ("old", "new", "dkim"),
    [
        (b"hello", b"hello", "dkim=pass"),
        (b"hello", b"jello", 'dkim=fail reason="the body was changed"'),
        (b"s=s1", b"s=s2", 'dkim=fail reason="no key"'),
    ],
)
async def test_smtp_and_rest_get_the_same_results(
    house: House, key: KeyPair, tmp_path: Path, old: bytes, new: bytes, dkim: str
) -> None:
    content = FORGED + (await signed(key, tmp_path)).replace(old, new)
    replies = await send(house.mx, "ann@example.net", ["bob@b.example"], content)
    assert [reply.code for reply in replies] == [250, 250, 250]
    document = {
        "mail_from": {"m": "ann@example.net"},
        "rcpt_to": [{"m": "bob@b.example"}],
        "body": {"inline": content.decode()},
        "remote_host": ["127.0.0.1", 40000],
        "smtp_meta": {"ehlo_host": "client.example", "esmtp": True, "tls": False, "auth": None},
        "sender": {"name": "ingress", "tag": "smtp-mx-upstream"},
    }
    url = f"{house.rest}/senders/ingress/transactions"
    async with aiohttp.ClientSession() as client, client.post(url, json=document) as response:
        assert response.status == 201
    await eventually(lambda: len(house.sink.received) == 2)
    by_smtp, by_rest = (results(mail.content) for mail in house.sink.received)
    selector = "s2" if new == b"s=s2" else "s1"
    assert by_smtp == [
        "mx.example.com; iprev=pass policy.iprev=127.0.0.1; spf=pass smtp.mailfrom=example.net; "
        f"{dkim} header.d=example.net header.s={selector} header.a=rsa-sha256"
    ]
    assert by_rest == by_smtp
    assert all(mail.content.endswith(content.removeprefix(FORGED)) for mail in house.sink.received)
