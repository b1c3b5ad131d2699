"""The filters that ask DNS, in a router that asks a name server process: who the client is, where mail goes."""

from __future__ import annotations

import email
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.house import House, eventually
from tests.support.nameserver import name_server_process
from tests.support.smtp_dialogue import message, send

ZONE = """
1.0.0.127.in-addr.arpa  PTR   client.example.
client.example          A     127.0.0.1
example.net             TXT   "v=spf1 a:client.example -all"
example.net             MX    10 mx.example.net.
strict.example          TXT   "v=spf1 -all"
strict.example          A     127.0.0.1
mx.example.net          A     127.0.0.1
b.example               MX    10 dead.b.example.
b.example               MX    20 mx.b.example.
mx.b.example            A     127.0.0.1
null.example            MX    0 .
servfail.example        MX    !servfail
"""
REMOTE_HOST = "koukan.remote_host_filter.RemoteHostFilter"
SPF = "koukan.spf_check_filter.SpfCheckFilter"
DNS = "koukan.mx_resolution.DnsResolutionFilter"


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with name_server_process(ZONE, tmp_path) as address:
        house: House

        def with_dns(document: dict[str, Any]) -> None:
            document["global"]["dns"] = {"nameservers": [address]}
            chain = document["endpoint"][2]["chain"]
            policy = {"name": "dest_domain", "dest_port": house.sink_port, "destination": {"endpoint": "gateway"}}
            chain[3] = {"filter": "router", "policy": policy}
            chain.insert(4, {"filter": "dns_resolution", "suffix": "", "allow_private": True})
            chain.insert(1, {"filter": "spf_check", "received_hostname": "mx.example.com"})
            chain.insert(1, {"filter": "remote_host"})

        house = House(tmp_path, sqlite_url, with_dns)
        async with house:
            yield house


async def test_mail_goes_to_the_exchangers_of_its_domain(house: House) -> None:
    replies = await send(house.mx, "ann@example.net", ["bob@b.example"], message("by MX"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    mail = email.message_from_bytes(house.sink.received[0].content)
    assert mail["Received"].startswith("from client.example (client.example. [127.0.0.1])")
    assert mail["Received-SPF"].startswith("pass (mx.example.com: domain of example.net designates 127.0.0.1")


@pytest.mark.parametrize(
    ("domain", "code", "enhanced"),
    [("null.example", 550, "5.1.2"), ("nowhere.example", 550, "5.1.2"), ("servfail.example", 450, "4.4.3")],
)
async def test_a_domain_that_does_not_resolve_is_answered_with_its_class(
    house: House, domain: str, code: int, enhanced: str
) -> None:
    replies = await send(house.mx, "ann@example.net", [f"bob@{domain}", "bob@b.example"], message("mixed"))
    assert (replies[1].code, replies[1].enhanced_code) == (code, enhanced)
    assert [reply.code for reply in (replies[0], *replies[2:])] == [250, 250, 250]
    assert [mail.rcpt_to for mail in house.sink.received] == [("bob@b.example",)]


@pytest.mark.parametrize(("sender", "spf", "word"), [("ann@example.net", 1, "pass"), ("ann@strict.example", 3, "fail")])
async def test_smtp_and_rest_get_the_same_verdicts(house: House, sender: str, spf: int, word: str) -> None:
    recipient = "desk@app.example.com"
    await send(house.mx, sender, [recipient], message("by SMTP"))
    document = {
        "mail_from": {"m": sender},
        "rcpt_to": [{"m": recipient}],
        "body": {"inline": message("by REST").decode()},
        "remote_host": ["127.0.0.1", 40000],
        "smtp_meta": {"ehlo_host": "client.example", "esmtp": True, "tls": False, "auth": None},
        "sender": {"name": "ingress", "tag": "smtp-mx-upstream"},
    }
    url = f"{house.rest}/senders/ingress/transactions"
    async with aiohttp.ClientSession() as client, client.post(url, json=document) as response:
        assert response.status == 201
    await eventually(lambda: [r.body is not None for r in house.receiver.transactions.values()] == [True, True])
    outputs = [received.filter_output for received in house.receiver.transactions.values()]
    for output in outputs:
        assert output[REMOTE_HOST]["fcrdns"] is True
        assert output[REMOTE_HOST]["ehlo_alignment"] is True
        assert output[SPF] == {"mail_from_result": spf}
        assert output[DNS] == {"mail_from_result": 0, "rcpt_to_result": [1]}
    headers = [email.message_from_bytes(r.body or b"")["Received-SPF"] for r in house.receiver.transactions.values()]
    assert headers[0] == headers[1]
    assert headers[0].startswith(f"{word} ")
