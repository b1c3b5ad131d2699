"""The engine: hooks in their order, answers in their places, and failures whose class is never made worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.chain.engine import ChainRun
from koukan.chain.filter import Filter
from koukan.chain.outputs import DkimCheckOutput, MessageValidationOutput
from koukan.chain.transaction import Recipient, Transaction
from koukan.config.router import DnsConfig
from koukan.errors import InvalidMessage
from koukan.message.bodies import SpecBody
from koukan.message.builder import parse_spec
from koukan.model import Body, EsmtpParam, Mailbox, Response, Step, StepResult, Upstream
from koukan.net.dns import Resolver
from tests.support.chains import (
    MESSAGE,
    RecordedSides,
    RecordingSink,
    StaticRoute,
    make_chain,
    make_context,
    make_step,
    make_transaction,
)
from tests.support.dkim_keys import rsa_key

OK = Response(250, "ok")
BUSY = Response(451, "4.3.2 busy")
UNKNOWN = Response(550, "5.1.1 unknown")
INTERNAL = Response(451, "4.3.0 internal error, try again later")


class Scripted(Filter):
    """Answers what it is told for a reverse-path, a recipient or `data`; raises where the answer is an exception."""

    def __init__(self, calls: list[str], name: str = "", **answers: Response | Exception) -> None:
        self._calls = calls
        self._name = name
        self._answers = answers

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        return self._answer(mail_from.address)

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        return self._answer(recipient.mailbox.address)

    async def on_body(self, tx: Transaction, body: Body) -> Response | None:
        return self._answer("data")

    async def on_end(self, tx: Transaction) -> None:
        self._calls.append(f"{self._name}end")

    def _answer(self, moment: str) -> Response | None:
        self._calls.append(self._name + moment)
        answer = self._answers.get(moment)
        if isinstance(answer, Exception):
            raise answer
        return answer


def start(sink: RecordingSink, **answers: Response | Exception) -> ChainRun:
    return make_chain([Scripted([], **answers)], sink).open(make_transaction())


def sent(sink: RecordingSink) -> list[str]:
    return [mailbox.address for mailbox in sink.rcpt_to]


async def test_moment_by_moment_through_all_filters() -> None:
    calls: list[str] = []
    run = make_chain([Scripted(calls, "1"), Scripted(calls, "2")], RecordingSink()).open(make_transaction())
    await run.step(make_step("ann", ["bob", "cat"], MESSAGE))
    await run.cancel()
    await run.cancel()
    assert calls == ["1ann", "2ann", "1bob", "2bob", "1cat", "2cat", "1data", "2data", "1end", "2end"]


async def test_answers_keep_their_places_and_who_was_answered_does_not_go_on() -> None:
    sink = RecordingSink({"cat": BUSY})
    result = await start(sink, bob=UNKNOWN).step(make_step("ann", ["amy", "bob", "cat", "dan"], MESSAGE))
    assert (result.mail, result.rcpt, result.data) == (OK, [OK, UNKNOWN, BUSY, OK], OK)
    assert (sent(sink), sink.bodies) == (["amy", "cat", "dan"], [MESSAGE])


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [(BUSY, 451, "4.5.1 failed precondition: "), (UNKNOWN, 550, "5.5.1 failed precondition: ")],
)
async def test_what_depends_on_a_failure_fails_with_its_class(failure: Response, code: int, text: str) -> None:
    refused, after_mail = Response(code, f"{text}MAIL"), Response(code, f"{text}all rcpts failed")
    for sink in (RecordingSink(), RecordingSink({"ann": failure})):
        run = start(sink, **({} if sink.answers else {"ann": failure}))
        result = await run.step(make_step("ann"))
        if result.mail == failure:
            assert (await run.step(make_step(rcpt_to=["bob"]))).rcpt == [refused]
        else:  # the sink hears of the reverse-path with its first recipient
            await run.step(make_step(rcpt_to=["bob"]))
            assert (await run.step(make_step(rcpt_to=["cat"]))).rcpt == [refused]
        assert (await run.step(make_step(body=MESSAGE))).data == refused
        assert sink.bodies == []
    sink = RecordingSink()
    result = await start(sink, bob=failure).step(make_step("ann", ["bob"], MESSAGE))
    assert (result.rcpt, result.data, sink.bodies) == ([failure], after_mail, [])


async def test_a_recipient_that_may_still_become_good_makes_the_failure_temporary() -> None:
    result = await start(RecordingSink(), bob=UNKNOWN, cat=BUSY).step(make_step("ann", ["bob", "cat"], MESSAGE))
    assert result.data == Response(451, "4.5.1 failed precondition: all rcpts failed")


@pytest.mark.parametrize("moment", ["ann", "bob", "data"])
@pytest.mark.parametrize(
    ("error", "answer"),
    [(ZeroDivisionError(), INTERNAL), (InvalidMessage("too long"), Response(550, "5.6.0 too long"))],
)
async def test_an_exception_is_the_answer_to_the_whole_step(moment: str, error: Exception, answer: Response) -> None:
    sink = RecordingSink()
    result = await start(sink, **{moment: error}).step(make_step("ann", ["bob", "cat"], MESSAGE))
    assert (result.mail, result.rcpt, result.data) == (answer, [answer] * 2, answer)
    assert sink.bodies == []


@pytest.mark.parametrize(
    ("error", "prefix"), [(ZeroDivisionError(), "4.5.1"), (InvalidMessage("too long"), "5.5.1")], ids=["4xx", "5xx"]
)
async def test_after_an_exception_nothing_goes_on_and_its_class_stays(error: Exception, prefix: str) -> None:
    sink = RecordingSink()
    run = start(sink, ann=error)
    first = (await run.step(make_step("ann"))).mail
    assert first is not None
    failed = Response(first.code, f"{prefix} failed precondition: MAIL")
    assert (await run.step(make_step(rcpt_to=["bob"]))).rcpt == [failed]
    assert (await run.step(make_step(body=MESSAGE))).data == failed
    assert (sink.mail_from, sink.rcpt_to, sink.bodies) == ([], [], [])


async def test_recipients_of_a_step_that_broke_have_failed_all_of_them() -> None:
    sink = RecordingSink()
    run = start(sink, bob=ZeroDivisionError())
    await run.step(make_step("ann"))
    assert (await run.step(make_step(rcpt_to=["bob", "cat"]))).rcpt == [INTERNAL] * 2
    assert (await run.step(make_step(body=MESSAGE))).data == Response(
        451, "4.5.1 failed precondition: all rcpts failed"
    )
    assert (await run.step(make_step(rcpt_to=["dan"]))).rcpt == [OK]
    assert (sent(sink), sink.bodies) == (["dan"], [])


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (lambda: [make_step(rcpt_to=["bob"])], Response(503, "5.5.1 MAIL first")),
        (lambda: [make_step("ann"), make_step(body=MESSAGE)], Response(503, "5.5.1 RCPT first")),
        (
            lambda: [make_step("ann", ["bob"], MESSAGE), make_step(body=MESSAGE)],
            Response(503, "5.5.1 the message was sent already"),
        ),
    ],
)
async def test_commands_out_of_order(steps: Callable[[], list[Step]], answer: Response) -> None:
    run = start(RecordingSink())
    *before, last = steps()
    for step in before:
        await run.step(step)
    result = await run.step(last)
    assert (result.data or result.rcpt[0]) == answer


async def test_a_body_that_never_becomes_whole_is_a_temporary_failure() -> None:
    body = SpooledBody()
    body.append(MESSAGE)
    body.abort("the peer is gone")
    sink = RecordingSink()
    result = await start(sink).step(make_step("ann", ["bob"], body))
    assert result.data == Response(451, "4.4.2 the message did not arrive completely")
    assert sink.bodies == []


class Broken(RecordingSink):
    """Raises at one step, which it may have carried out."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.steps = 0

    def open(self, tx: Transaction) -> Upstream:
        return _BreakingOff(self, super().open(tx))


class _BreakingOff(Upstream):
    def __init__(self, sink: Broken, upstream: Upstream) -> None:
        self._sink = sink
        self._upstream = upstream

    async def step(self, step: Step) -> StepResult:
        self._sink.steps += 1
        result = await self._upstream.step(step)
        if self._sink.steps == self._sink.at:
            raise ValueError("a bug")
        return result

    async def heartbeat(self) -> None:
        await self._upstream.heartbeat()

    async def cancel(self) -> None:
        await self._upstream.cancel()


async def test_after_a_step_that_the_sink_did_not_answer_nothing_goes_on() -> None:
    sink = Broken(at=2)
    run = make_chain([Scripted([])], sink).open(make_transaction())
    assert (await run.step(make_step("ann", ["amy"]))).rcpt == [OK]
    assert (await run.step(make_step(None, ["bob"]))).rcpt == [INTERNAL]
    assert [answer.code for answer in (await run.step(make_step(None, ["cat"]))).rcpt] == [451]
    late = await run.step(make_step(None, [], MESSAGE))
    assert late.data is not None and late.data.code == 451
    assert sink.steps == 2 and not sink.bodies


# --- the same recipient again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
async def test_a_recipient_that_is_named_again_is_answered_alike_and_goes_on_once(steps: int) -> None:
    """As PHPMailer and emailjs send one that stands in To and in Cc; domains have no case, local parts have."""
    calls: list[str] = []
    sink = RecordingSink({"bob@b.example": Response(250, "2.1.5 bob")})
    run = make_chain([Scripted(calls)], sink).open(make_transaction())
    names = ["bob@b.example", "bob@B.Example", "Bob@b.example", "Postmaster", "postmaster"]
    answers: list[Response] = []
    for part in [names] if steps == 1 else [names[:1], names[1:4], names[4:]]:
        answers += (await run.step(make_step(None if answers else "ann@a.example", part))).rcpt
    assert [a.message for a in answers] == ["2.1.5 bob", "2.1.5 bob", "ok", "ok", "ok"]
    assert (await run.step(make_step(body=MESSAGE))).data == OK
    assert sent(sink) == ["bob@b.example", "Bob@b.example", "Postmaster"] == calls[1:4]


async def test_all_at_once_with_the_body() -> None:
    sink = RecordingSink({"bob@b.example": BUSY})
    result = await start(sink).step(make_step("ann", ["bob@b.example", "cat@b.example", "bob@b.example"], MESSAGE))
    assert (result.rcpt, result.data) == ([BUSY, OK, BUSY], OK)
    assert (sent(sink), sink.bodies) == (["bob@b.example", "cat@b.example"], [MESSAGE])


async def test_a_recipient_that_was_refused_may_be_asked_for_again() -> None:
    sink = RecordingSink({"bob@b.example": BUSY})
    run = start(sink)
    assert (await run.step(make_step("ann", ["bob@b.example"]))).rcpt == [BUSY]
    sink.answers = {}
    assert (await run.step(make_step(None, ["bob@b.example"]))).rcpt == [OK]
    assert sent(sink) == ["bob@b.example"] * 2


async def test_other_parameters_are_another_wish() -> None:
    sink = RecordingSink()
    twice = [Mailbox("bob@b.example"), Mailbox("bob@b.example", (EsmtpParam("NOTIFY", "NEVER"),))]
    await start(sink).step(Step(Mailbox("ann"), twice))
    assert sink.rcpt_to == twice


async def test_one_that_is_named_again_is_no_recipient_more_for_rules_and_copies() -> None:
    rule = {
        "filter": "policy_action",
        "tag": "many",
        "mode": "PER_RCPT",
        "match": {"matcher": "num_rcpts", "max_rcpts": 2},
        "action": "REJECT",
    }
    sides = RecordedSides()
    context = replace(make_context(), side_chains=sides)
    copies = {"filter": "add_route", "sender": "archive", "store_and_forward": True}
    run = make_chain([rule, copies], RecordingSink(), context).open(make_transaction())
    result = await run.step(
        make_step("ann", ["bob@b.example", "bob@b.example", "cat@b.example", "dan@b.example"], MESSAGE)
    )
    assert [r.code for r in result.rcpt] == [250, 250, 250, 550]
    assert [s.rcpt_to[0].address for s in sides.stored.values()] == ["bob@b.example", "cat@b.example"]


# --- documents for message_builder ---------------------------------------------------------------------------------------

BEFORE = [
    {"filter": "message_validation"},
    {"filter": "dkim_check"},
    {"filter": "spf_check"},
    {"filter": "received_header"},
    {"filter": "authentication_results", "authserv_id": "mx.example.com"},
    {"filter": "message_parser"},
    {
        "filter": "policy_action",
        "tag": "validation",
        "match": {"any": [{"matcher": "message_validation", "validity_threshold": "HIGH"}, {"matcher": "dkim_check"}]},
        "action": "REJECT",
    },
    {
        "filter": "policy_action",
        "tag": "from",
        "match": {"matcher": "address_list", "which_addr": "header_from", "domains": ["evil.example"]},
        "action": "REJECT",
    },
]


@pytest.mark.parametrize("item", [*BEFORE, None], ids=lambda item: item["filter"] if item else "all of them")
async def test_a_document_passes_what_comes_before_its_builder_untouched(
    item: dict[str, Any] | None, tmp_path: Path
) -> None:
    """What filters would find out about it is not known, and rules about that are not met."""
    key = rsa_key()
    sign = {"filter": "dkim_sign", "domain": "a.example", "selector": "s", "key": key.write(tmp_path / "key.pem")}
    before = [*BEFORE, sign] if item is None else [item]
    sink, tx = RecordingSink(), make_transaction(None)
    route = StaticRoute()
    chain = make_chain([route, *before, {"filter": "message_builder"}], sink, make_context(Resolver(DnsConfig())))
    text = {"content_type": "text/plain", "content": {"create_id": "text"}}
    spec = parse_spec({"headers": [["from", [{"address": "eve@evil.example"}]]], "text_body": [text]})
    body = SpecBody(spec.document, {"text": BytesBody(b"hello\n")})
    result = await chain.open(tx).step(make_step("ann@a.example", ["bob@b.example"], body))
    assert result.data == OK
    assert sink.bodies[0].lower().startswith(b"from:")
    assert not {MessageValidationOutput.key, DkimCheckOutput.key} & tx.outputs.keys()


async def test_behind_the_builder_a_document_is_a_message_like_any_other() -> None:
    chain = make_chain([{"filter": "message_builder"}, *BEFORE[:1], *BEFORE[-1:]], RecordingSink())
    spec = parse_spec({"headers": [["from", [{"address": "eve@evil.example"}]]]})
    result = await chain.open(tx := make_transaction()).step(
        make_step("ann@a.example", ["bob@b.example"], SpecBody(spec.document, {}))
    )
    assert tx.output(MessageValidationOutput) is not None
    assert result.data is not None and result.data.code == 550


async def test_a_message_is_looked_at_before_the_builder_too() -> None:
    chain = make_chain([*BEFORE[:1], *BEFORE[6:7], {"filter": "message_builder"}], RecordingSink())
    result = await chain.open(make_transaction()).step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
    assert result.data is not None and result.data.code == 550
