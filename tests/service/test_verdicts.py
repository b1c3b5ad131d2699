"""What is known of a mail does not depend on how it came: SMTP and REST get the same Authentication-Results."""

from __future__ import annotations

import email
import email.policy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Submission
from tests.support.dkim_keys import ed25519_key
from tests.support.house import House, eventually
from tests.support.nameserver import name_server_process
from tests.support.smtp_dialogue import message, send

ZONE = """
1.0.0.127.in-addr.arpa          PTR   client.example.
client.example                  A     127.0.0.1
example.net                     TXT   "v=spf1 a:client.example -all"
strict.example                  TXT   "v=spf1 -all"
"""
AUTHSERV = "mx.example.com"


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    key = ed25519_key()
    pem = key.write(tmp_path / "ed.pem")
    async with name_server_process(ZONE + key.zone("example.net", "ed"), tmp_path) as address:

        def with_checks(document: dict[str, Any]) -> None:
            document["global"]["dns"] = {"nameservers": [address]}
            checks = [
                {"filter": "remote_host"},
                {"filter": "message_validation"},
                {"filter": "spf_check"},
                {"filter": "dkim_check"},
                {"filter": "authentication_results", "authserv_id": AUTHSERV},
                {
                    "filter": "policy_action",
                    "tag": "forgeries",
                    "match": {"matcher": "spf_check", "mail_from_result": "fail"},
                    "action": "REJECT",
                    "message": "5.7.23 SPF says no",
                },
            ]
            deliver = document["endpoint"][2]["chain"]
            signing = {"name": "sign", "chain": [*deliver]}
            signing["chain"].insert(2, {"filter": "dkim_sign", "domain": "example.net", "selector": "ed", "key": pem})
            document["endpoint"].append(signing)
            document["sender"].append({"name": "signed", "output_chain": "sign"})
            document["sender"].append({"name": "checked", "output_chain": "deliver"})
            deliver[1:1] = checks

        async with House(tmp_path, sqlite_url, with_checks) as house:
            yield house


async def signed(house: House, tmp_path: Path, content: bytes) -> bytes:
    """The message as the signing chain sends it out."""
    eml = tmp_path / "unsigned.eml"
    eml.write_bytes(content)
    clients = HttpClients()
    submission = Submission(clients, f"{house.rest}/senders/signed/transactions")
    count = len(house.sink.received)
    await submission.submit("ann@example.net", "bob@example.com", Message(eml=eml))
    await house.arrived(count + 1)
    await clients.close()
    return house.sink.received[-1].content


def envelope(mail_from: str) -> dict[str, Any]:
    """What an SMTP client's conversation is as a REST client tells it."""
    return {
        "mail_from": {"m": mail_from},
        "rcpt_to": [{"m": "bob@example.com"}],
        "remote_host": ["127.0.0.1", 4711],
        "smtp_meta": {"ehlo_host": "client.example", "esmtp": True, "tls": False, "auth": None},
    }


async def by_rest(house: House, mail_from: str, content: bytes) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{house.rest}/senders/checked/transactions"
        async with http.post(url, json=envelope(mail_from)) as created:
            assert created.status == 201
            location = created.headers["location"]
        async with http.put(f"{location}/body", data=content) as uploaded:
            assert uploaded.status == 200


def results(content: bytes) -> list[str]:
    """The Authentication-Results of a message, unfolded."""
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    return [" ".join(value.split()) for value in parsed.get_all("authentication-results", [])]


async def test_one_verdict_whichever_way_a_mail_comes(house: House, tmp_path: Path) -> None:
    mail = await signed(house, tmp_path, message("verdict"))
    assert (await send(house.mx, "ann@example.net", ["bob@example.com"], mail))[-1].code == 250
    await by_rest(house, "ann@example.net", mail)
    await house.arrived(3)
    by_smtp, by_http = (results(received.content) for received in house.sink.received[1:])
    assert by_smtp == by_http
    [verdict] = by_smtp
    assert verdict.startswith(f"{AUTHSERV};")
    for part in ("spf=pass", "dkim=pass", "header.d=example.net", "iprev=pass"):
        assert part in verdict


async def test_what_was_changed_on_the_way_fails(house: House, tmp_path: Path) -> None:
    mail = (await signed(house, tmp_path, message("verdict"))).replace(b"hello", b"bye!!")
    assert (await send(house.mx, "ann@example.net", ["bob@example.com"], mail))[-1].code == 250
    [verdict] = results(house.sink.received[-1].content)
    assert "dkim=fail" in verdict and "spf=pass" in verdict


async def test_a_verdict_in_our_name_that_is_not_ours_is_gone(house: House) -> None:
    forged = f"Authentication-Results: {AUTHSERV};\r\n\tdkim=pass header.d=bank.example\r\n".encode()
    others = b"Authentication-Results: other.example; spf=pass\r\n"
    mail = forged + others + message("forged")
    assert (await send(house.mx, "ann@example.net", ["bob@example.com"], mail))[-1].code == 250
    [ours, theirs] = results(house.sink.received[-1].content)
    assert ours.startswith(AUTHSERV) and "dkim=none" in ours and "bank.example" not in ours
    assert theirs == "other.example; spf=pass"


async def test_a_policy_rejects_on_a_verdict_with_the_same_answer_both_ways(house: House) -> None:
    replies = await send(house.mx, "ceo@strict.example", ["bob@example.com"], message("fraud"))
    assert replies[1].code == 550 and "5.7.23 SPF says no" in replies[1].message
    found = await refused_by_rest(house, "ceo@strict.example")
    assert found["code"] == 550 and found["message"] == replies[1].message
    await eventually(lambda: not house.router.dispatcher.busy, 5)
    assert not house.sink.received


async def refused_by_rest(house: House, mail_from: str) -> dict[str, Any]:
    """The answer that a transaction fails with before its body is there."""
    async with aiohttp.ClientSession() as http:
        url = f"{house.rest}/senders/checked/transactions"
        async with http.post(url, json=envelope(mail_from), headers={"prefer": "wait=10"}) as created:
            found: dict[str, Any] = (await created.json())["mail_response"]
            return found
