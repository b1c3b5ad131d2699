"""Addresses as others issue them, in real SMTP conversations: taken and sent on as they are, or refused with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House
from tests.support.nameserver import name_server_process
from tests.support.smtp_dialogue import message, send

ZONE = """
docomo.example          MX    10 mx.docomo.example.
mail_1.example          MX    10 mx.docomo.example.
mx.docomo.example       A     127.0.0.1
"""
#: a local part with dots that no grammar has, and a domain with an underscore: both in use
ODD = ["try..this..0511.@docomo.example", ".bob@docomo.example", "bob@mail_1.example"]


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with name_server_process(ZONE, tmp_path) as address:
        house: House

        def by_domain(document: dict[str, Any]) -> None:
            document["global"]["dns"] = {"nameservers": [address]}
            away = {"name": "dest_domain", "dest_port": house.sink_port, "destination": {"endpoint": "gateway"}}
            relay = {"endpoint": "gateway", "host_list": [{"host": "gone.example", "port": 25}]}
            local = {"name": "address_list", "domains": ["relayed.example"], "destination": relay}
            chain = document["endpoint"][2]["chain"]
            chain[3:4] = [
                {"filter": "router", "policy": local},
                {"filter": "router", "policy": away},
                {"filter": "router"},
                {"filter": "dns_resolution", "suffix": "", "allow_private": True},
            ]

        house = House(tmp_path, sqlite_url, by_domain)
        async with house:
            yield house


@pytest.mark.parametrize("address", ODD)
async def test_what_others_issue_is_relayed_as_it_is(house: House, address: str) -> None:
    replies = await send(house.mx, address, [address], message("odd"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    [mail] = house.sink.received
    assert (mail.mail_from, mail.rcpt_to) == (address, (address,))


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("bob", "the address has no domain"),
        ("bob@docomo..example", "the domain has an empty label"),
        ("bob@docomo.example.", "the domain has an empty label"),
        ("bob@x@docomo.example", "must not stand there unquoted"),
        ("bob@[1.2.3]", "no IP address"),
    ],
)
async def test_a_refusal_says_what_is_wrong_with_the_address(house: House, address: str, what: str) -> None:
    replies = await send(house.mx, "ann@example.net", [address], message("wrong"))
    assert (replies[1].code, replies[1].enhanced_code) == (553, "5.1.3")
    assert what in replies[1].message


async def test_a_relay_of_ours_that_is_gone_is_no_fault_of_the_recipient(house: House) -> None:
    replies = await send(house.mx, "ann@example.net", ["bob@relayed.example"], message("later"))
    assert (replies[1].code, replies[1].enhanced_code) == (451, "4.3.5")
    assert "gone.example" not in replies[1].message
    # A submission server keeps it instead of bothering its user.
    replies = await send(house.msa, "ann@example.net", ["bob@relayed.example"], message("kept"))
    assert [reply.code for reply in replies] == [250, 250, 250]


async def test_our_postmaster_is_that_of_the_first_list_that_leads_somewhere(house: House) -> None:
    for listener in (house.mx, house.msa):
        replies = await send(listener, "ann@example.net", ["PostMaster"], message("help"))
        assert [reply.code for reply in replies] == [250, 250, 250]
    received = house.receiver.transactions.values()
    assert [r.envelope["rcpt_to"][0]["m"] for r in received] == ["PostMaster"] * 2


async def test_a_recipient_in_to_and_cc_gets_one_copy(house: House) -> None:
    rcpts = ["bob@docomo.example", "amy@docomo.example", "bob@docomo.example"]
    replies = await send(house.mx, "ann@example.net", rcpts, message("once"))
    assert [reply.code for reply in replies] == [250] * 5
    assert sorted(r for mail in house.sink.received for r in mail.rcpt_to) == [
        "amy@docomo.example",
        "bob@docomo.example",
    ]
