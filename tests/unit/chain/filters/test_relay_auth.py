"""relay_auth: who may relay."""

from __future__ import annotations

from typing import Any

import pytest

from koukan.chain.transaction import Transaction
from koukan.model import HostPort, Response, Sender, SmtpMeta
from tests.support.chains import RecordingSink, make_chain, make_step

DENIED = Response(550, "5.7.1 relaying denied: this client address is not in the allowlist (relay_auth)")
AUTHENTICATE = Response(530, "5.7.0 authentication required (relay_auth)")


async def mail(options: dict[str, Any], client: str | None, meta: SmtpMeta | None) -> Response | None:
    host = None if client is None else HostPort(client, 40000)
    chain = make_chain([{"filter": "relay_auth", **options}], RecordingSink())
    result = await chain.open(Transaction("tx1", Sender("test"), host, smtp_meta=meta)).step(make_step("ann@a.example"))
    return result.mail


@pytest.mark.parametrize(
    ("options", "client", "meta"),
    [
        ({}, "198.51.100.1", SmtpMeta("c.example", auth=True)),
        ({}, None, SmtpMeta("c.example", auth=True)),
        ({"allowlist": ["192.0.2.0/24"]}, "192.0.2.9", SmtpMeta("c.example")),
        ({"allowlist": ["192.0.2.0/24"]}, "::ffff:192.0.2.9", None),
        ({"allowlist": ["2001:db8::/32", "192.0.2.0/24"]}, "2001:db8::1", SmtpMeta("c.example", auth=False)),
        ({"smtp_auth": False, "allowlist": ["192.0.2.9/32"]}, "192.0.2.9", SmtpMeta("c.example", auth=True)),
    ],
)
async def test_authenticated_and_listed_clients_may_relay(
    options: dict[str, Any], client: str | None, meta: SmtpMeta | None
) -> None:
    answer = await mail(options, client, meta)
    assert answer is not None
    assert answer.ok


@pytest.mark.parametrize(
    ("options", "client", "meta", "answer"),
    [
        ({}, "192.0.2.9", SmtpMeta("c.example"), AUTHENTICATE),
        ({}, "192.0.2.9", SmtpMeta("c.example", auth=False), AUTHENTICATE),
        ({}, "192.0.2.9", None, AUTHENTICATE),
        ({}, None, None, AUTHENTICATE),
        ({"allowlist": ["192.0.2.0/24"]}, "198.51.100.9", None, AUTHENTICATE),
        ({"allowlist": ["192.0.2.0/24"]}, "client.example", None, AUTHENTICATE),
        ({"smtp_auth": False}, "192.0.2.9", SmtpMeta("c.example", auth=True), DENIED),
    ],
)
async def test_everybody_else_may_not(
    options: dict[str, Any], client: str | None, meta: SmtpMeta | None, answer: Response
) -> None:
    assert await mail(options, client, meta) == answer


async def test_no_recipient_gets_past_it() -> None:
    sink = RecordingSink()
    chain = make_chain([{"filter": "relay_auth"}], sink)
    result = await chain.open(Transaction("tx1", Sender("test"))).step(
        make_step("ann@a.example", ["bob@b.example"], b"x\r\n")
    )
    assert [r.code for r in result.rcpt] == [530]
    assert result.data is not None
    assert result.data.code == 530
    assert sink.rcpt_to == []
