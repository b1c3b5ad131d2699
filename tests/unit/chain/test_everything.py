"""Every filter in one chain: whatever comes, it is answered on purpose, and nobody but us adds a header field.

Envelopes hold line ends here, which the REST API lets in nowhere: filters do not rely on it.
"""

from __future__ import annotations

import base64
import json
import re
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.chain.engine import Chain
from koukan.chain.filter import Context
from koukan.chain.transaction import Transaction
from koukan.model import Body, HostPort, Mailbox, Response, Sender, SmtpMeta, Step, StepResult
from koukan.net.dns import Resolver
from tests.support.chains import RecordedSides, RecordingSink, make_chain, make_context
from tests.support.dkim_keys import ed25519_key
from tests.support.hostile import INJECTED, MAIL, Hostile, HostileDns

#: transactions per test, half a millisecond to a whole one each
MESSAGES = 2500
MIB = 1024 * 1024
ENDPOINT = {"name": "receiver", "endpoint": "http://receiver.invalid/"}
HEAD = (
    b"From: ann@a.example\r\nDate: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <a@a.example>\r\n"
    b"Authentication-Results: mx.example; none\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=YQ==; b=YQ==\r\n"
    b"Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
)
#: the fields that filters put on top of a message, and those of them that not every message gets
OURS = ["DKIM-Signature", "Received", "Authentication-Results", "Received-SPF"]
SOMETIMES = {"DKIM-Signature", "Received-SPF"}

#: a header field as it may be written: lines that end in CRLF, none empty, none longer than RFC 5322 §2.1.1 allows
_TEXT = rb"[^\r\n\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
FIELD = re.compile(rb"([!-9;-~]+):%b{1,980}\r\n(?:[ \t]%b{1,996}\r\n)*" % (_TEXT, _TEXT))


def rule(tag: str, match: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"filter": "policy_action", "tag": tag, "match": match, **more}


def every_filter(key: str) -> list[dict[str, Any]]:
    receiver = {"endpoint": "receiver", "options": {"receive_parsing": {"max_inline": 100}}}
    return [
        {"filter": "hello"},
        {"filter": "message_builder"},
        {"filter": "relay_auth", "allowlist": ["0.0.0.0/0", "::/0"]},
        rule("rcpt", {"matcher": "invalid_rcpt_to"}, mode="PER_RCPT", action="REJECT"),
        rule("many", {"matcher": "num_rcpts", "max_rcpts": 2}, mode="PER_RCPT", action="REJECT", code=452),
        rule("mail", {"matcher": "invalid_mail_from"}, action=[[9, "LOG"], [1, "REJECT"]]),
        {"filter": "remote_host"},
        rule("host", {"matcher": "remote_host", "fcrdns": False, "ehlo_alignment": False}, action="LOG"),
        {"filter": "message_validation"},
        rule("valid", {"matcher": "message_validation", "validity_threshold": "BASIC", "max_received_headers": 5}),
        {"filter": "spf_check", "extra_domains": ["gw.example"], "received_hostname": "mx.example"},
        rule("spf", {"any": [{"matcher": "spf_check", "mail_from_result": "fail"}, {"not": {"matcher": "smtp_tls"}}]}),
        {"filter": "dkim_check"},
        rule("dkim", {"all": [{"matcher": "dkim_check", "domains": ["a.example"]}, {"matcher": "smtp_auth"}]}),
        rule("from", {"matcher": "address_list", "which_addr": "header_from", "domains": ["a.example"]}, action="LOG"),
        {"filter": "authentication_results", "authserv_id": "mx.example"},
        {"filter": "received_header", "received_hostname": "mx.example"},
        {"filter": "dkim_sign", "domain": "a.example", "selector": "s", "key": key},
        {"filter": "router", "policy": {"name": "address_list", "domains": ["a.example"], "destination": receiver}},
        {"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "receiver"}}},
        {"filter": "router", "destination": receiver},
        {"filter": "dns_resolution", "suffix": ""},
        rule("route", {"matcher": "dns_resolution", "resolution_result": "NX"}, action=[[9, "MATCH"], [1, "REJECT"]]),
        {"filter": "add_route", "sender": "archive"},
        {"filter": "add_route", "sender": "archive", "store_and_forward": True},
        {"filter": "message_parser"},
    ]  # fmt: skip


def make_everything(key: Path, resolver: Resolver, *, keep: bool = True) -> tuple[Chain, RecordingSink]:
    sink, sides = RecordingSink(keep=keep), RecordedSides(keep=keep)
    base = make_context(resolver, rest_endpoint=[ENDPOINT])
    context = Context(base.config, resolver, sides, random=base.random)
    return make_chain(every_filter(ed25519_key().write(key)), sink, context), sink


async def transact(chain: Chain, number: int, hostile: Hostile, body: Body) -> tuple[Transaction, list[StepResult]]:
    """One transaction, in one step or in several."""
    tx = Transaction(f"tx{number}", Sender("test"), hostile.client(), HostPort("192.0.2.1", 25), hostile.meta())
    mail_from, rcpt_to = hostile.mailbox(), [hostile.mailbox() for _ in range(1 + hostile.chance(0.2) * 3)]
    whole = [Step(mail_from, rcpt_to, body)]
    steps = whole if hostile.chance(0.5) else [Step(mail_from), Step(rcpt_to=rcpt_to), Step(body=body)]
    run = chain.open(tx)
    results = [await run.step(step) for step in steps]
    await run.cancel()
    return tx, results


def added_fields(head: bytes) -> list[str]:
    """The names of the fields that stand in front of a message; the block has nothing else."""
    names, position = [], 0
    while position < len(head):
        found = FIELD.match(head, position)
        assert found is not None, head[position:]
        names.append(found[1].decode())
        position = found.end()
    return names


def answers_of(results: Sequence[StepResult]) -> list[Response]:
    return [answer for result in results for answer in (result.mail, *result.rcpt, result.data) if answer is not None]


def check_outputs(tx: Transaction) -> None:
    """What filters have learned can be sent to receivers."""
    json.dumps({key: output.to_json() for key, output in tx.outputs.items()}, ensure_ascii=False).encode()


@pytest.mark.parametrize("seed", range(4))
async def test_every_message_is_answered_on_purpose_and_goes_on_unchanged(seed: int, tmp_path: Path) -> None:
    chain, sink = make_everything(tmp_path / "key", HostileDns(seed))
    hostile, unchanged = Hostile(seed), 0
    for number in range(MESSAGES):
        message = hostile.message()
        tx, results = await transact(chain, number, hostile, BytesBody(message))
        # Neither DNS nor the processor is in trouble: 452 is for a recipient too many.
        assert not tx.internal_error
        assert all(answer.code in (250, 452) or answer.permanent for answer in answers_of(results)), (number, results)
        check_outputs(tx)
        bodies, sink.bodies = sink.bodies, []
        if b"authentication-results" in message.lower():
            continue  # a forged one is taken out
        for body in bodies:
            assert body.endswith(message)
            head = body.removesuffix(message)
            assert tx.smtputf8 or head.isascii()
            names = added_fields(head)
            assert names == [name for name in OURS if name in names or name not in SOMETIMES]
            unchanged += 1
    assert unchanged > MESSAGES / 5


async def test_no_text_of_a_document_becomes_a_field(tmp_path: Path) -> None:
    chain, sink = make_everything(tmp_path / "key", HostileDns(5))
    hostile = Hostile(5)
    for number in range(MESSAGES):
        tx, results = await transact(chain, number, hostile, hostile.document())
        assert not tx.internal_error
        assert all(answer.code in (250, 452) or answer.permanent for answer in answers_of(results)), (number, results)
    assert len(sink.bodies) > MESSAGES / 5
    for body in sink.bodies:
        lines = re.split(rb"\r\n|\r|\n", body)
        assert not any(line.lstrip().lower().startswith(INJECTED.lower().encode()) for line in lines)


async def test_trouble_with_dns_is_temporary_and_no_error_of_ours(tmp_path: Path) -> None:
    chain, _ = make_everything(tmp_path / "key", HostileDns(6, trouble=0.5))
    hostile, temporary = Hostile(6), 0
    for number in range(MESSAGES // 5):
        tx, results = await transact(chain, number, hostile, BytesBody(hostile.message()))
        assert not tx.internal_error
        check_outputs(tx)
        temporary += any(answer.code == 450 for answer in answers_of(results))
    assert temporary > MESSAGES / 50


async def test_a_large_message_costs_little_memory(tmp_path: Path) -> None:
    """Through every filter, from the spool and parsed into it again."""
    chain, _ = make_everything(tmp_path / "key", HostileDns(7), keep=False)
    message = SpooledBody(str(tmp_path))
    message.append(HEAD)
    line = base64.b64encode(bytes(57)) + b"\r\n"
    for _ in range(20):
        message.append(line * (MIB // len(line)))
    message.finish()
    tx = Transaction("tx", Sender("test"), HostPort("192.0.2.1", 25), None, SmtpMeta("a.example", auth=True))
    run = chain.open(tx)
    tracemalloc.start()
    result = await run.step(Step(Mailbox("ann@a.example"), [Mailbox("bob@a.example")], message))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    await run.cancel()
    message.close()
    assert result.data == Response(250, "ok")
    assert peak < 16 * MIB


async def test_an_ordinary_chain_for_incoming_mail_adds_its_fields_in_order(tmp_path: Path) -> None:
    sink = RecordingSink()
    receiver = {"endpoint": "receiver", "options": {"receive_parsing": {}}}
    items = [
        {"filter": "remote_host"},
        {"filter": "message_validation"},
        {"filter": "spf_check"},
        {"filter": "dkim_check"},
        {"filter": "authentication_results", "authserv_id": "mx.example"},
        rule("valid", {"matcher": "message_validation", "validity_threshold": "BASIC"}, action="REJECT"),
        {"filter": "received_header", "received_hostname": "mx.example"},
        {"filter": "router", "policy": {"name": "address_list", "domains": ["a.example"], "destination": receiver}},
        {"filter": "dns_resolution", "suffix": ""},
        {"filter": "message_parser"},
    ]
    context = make_context(HostileDns(8), rest_endpoint=[ENDPOINT])
    chain = make_chain(items, sink, context)
    accepted = 0
    for message in MAIL:
        tx = Transaction("tx", Sender("test"), HostPort("192.0.2.1", 25), None, SmtpMeta("a.example", esmtp=True))
        run = chain.open(tx)
        result = await run.step(Step(Mailbox("ann@a.example"), [Mailbox("bob@a.example")], BytesBody(message)))
        await run.cancel()
        if result.data is not None and result.data.ok:
            body = sink.bodies.pop()
            assert body.endswith(message)
            assert added_fields(body.removesuffix(message)) == ["Received", "Authentication-Results", "Received-SPF"]
            accepted += 1
        else:
            assert result.data == Response(550, "5.6.0 message rejected valid")
    assert accepted >= len(MAIL) - 1
