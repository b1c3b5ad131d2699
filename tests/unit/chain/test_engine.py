"""The engine: hooks in their order, answers in their places, and failures whose class is never made worse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from koukan.blob.spool import SpooledBody
from koukan.chain.engine import ChainRun
from koukan.chain.filter import Filter
from koukan.chain.transaction import Recipient, Transaction
from koukan.errors import InvalidMessage
from koukan.model import Body, Mailbox, Response, Step, StepResult, Upstream
from tests.support.chains import MESSAGE, RecordingSink, make_chain, make_step, make_transaction

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
