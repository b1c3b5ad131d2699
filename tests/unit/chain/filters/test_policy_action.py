"""policy_action: when a rule acts, on what, and what it leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from koukan.chain.filter import Filter
from koukan.chain.outputs import (
    DkimAlignment,
    DkimCheckOutput,
    DkimResult,
    DkimStatus,
    HostStatus,
    MessageValidationOutput,
    PolicyActionOutput,
    RemoteHostOutput,
)
from koukan.chain.transaction import FilterOutput, Recipient, Transaction
from koukan.message.validation import Level
from koukan.model import Body, Mailbox, Response, StepResult
from tests.support.chains import (
    MESSAGE,
    RecordingSink,
    make_chain,
    make_context,
    make_step,
    make_transaction,
)

TLS = {"matcher": "smtp_tls"}
YES = {"matcher": "hello"}
NO = {"not": YES}
BAD = {"matcher": "message_validation", "validity_threshold": "HIGH"}
BOB = {"matcher": "address_list", "which_addr": "rcpt_to", "prefixes": ["bob"]}


def rule(match: Mapping[str, Any] | None = None, tag: str = "t", **options: Any) -> dict[str, Any]:
    made = {"filter": "policy_action", "tag": tag, **options}
    return made if match is None else {**made, "match": match}


def reject(match: Mapping[str, Any] | None = None, tag: str = "t", **options: Any) -> dict[str, Any]:
    return rule(match, tag, action="REJECT", **options)


class Learns(Filter):
    """Puts an output into the transaction at one moment."""

    def __init__(self, output: FilterOutput, moment: str = "body") -> None:
        self._output = output
        self._moment = moment

    def _learn(self, tx: Transaction, moment: str) -> None:
        if moment == self._moment:
            tx.add_output(self._output)

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> None:
        self._learn(tx, "mail")

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> None:
        self._learn(tx, "rcpt")

    async def on_body(self, tx: Transaction, body: Body) -> None:
        self._learn(tx, "body")


class Session:
    """A client that sends the parts of a transaction one by one."""

    def __init__(self, items: Sequence[Any], **context: Any) -> None:
        self.sink = RecordingSink()
        self.tx = make_transaction()
        self._run = make_chain(items, self.sink, make_context(**context)).open(self.tx)

    async def mail(self, address: str = "ann@a.example") -> Response | None:
        return (await self._run.step(make_step(address))).mail

    async def rcpt(self, *addresses: str) -> list[Response]:
        return (await self._run.step(make_step(rcpt_to=addresses or ["bob@b.example"]))).rcpt

    async def data(self, body: bytes = MESSAGE) -> Response | None:
        return (await self._run.step(make_step(body=body))).data

    async def everything(self, *addresses: str, body: bytes = MESSAGE) -> StepResult:
        return await self._run.step(make_step("ann@a.example", addresses or ["bob@b.example"], body))

    @property
    def matched(self) -> dict[str, list[str]] | None:
        found = self.tx.output(PolicyActionOutput)
        return None if found is None else found.to_json()


REJECTED = Response(550, "5.6.0 message rejected t")

# --- the whole transaction ------------------------------------------------------------------------------------------------


async def test_without_match_a_rule_acts_on_the_reverse_path() -> None:
    client = Session([reject()])
    assert await client.mail() == REJECTED
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["t"]}


async def test_what_depends_on_a_rejected_reverse_path_has_its_class() -> None:
    result = await Session([reject(code=451, message="4.7.1 later")]).everything()
    assert result.mail == Response(451, "4.7.1 later")
    assert [r.code for r in result.rcpt] == [451]
    assert result.data is not None
    assert result.data.code == 451


async def test_the_default_text_agrees_with_the_code() -> None:
    assert await Session([reject(name="r", code=450)]).mail() == Response(450, "4.6.0 message rejected r")


async def test_match_records_and_lets_the_mail_pass() -> None:
    client = Session([rule(YES, name="r")])
    result = await client.everything()
    assert result.data is not None
    assert result.data.ok
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["r"]}


async def test_log_records_the_rule_only(caplog: pytest.LogCaptureFixture) -> None:
    client = Session([rule(YES, name="r", action="LOG")])
    with caplog.at_level(logging.INFO, "koukan.policy"):
        await client.everything()
    assert client.matched == {"matched_tags": [], "matched_rules": ["r"]}
    assert [record.__dict__["fields"]["rule"] for record in caplog.records] == ["r"]


async def test_a_rule_that_does_not_match_leaves_no_trace() -> None:
    client = Session([reject(NO)])
    result = await client.everything()
    assert result.data is not None
    assert result.data.ok
    assert client.matched is None


async def test_after_a_match_the_other_rules_of_its_tag_are_skipped() -> None:
    client = Session([rule(YES, name="one"), reject(YES, name="two"), rule(YES, tag="other")])
    await client.everything()
    assert client.matched == {"matched_tags": ["t", "other"], "matched_rules": ["one", "other"]}


async def test_log_does_not_retire_the_tag() -> None:
    client = Session([rule(YES, name="one", action="LOG"), rule(YES, name="two")])
    await client.everything()
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["one", "two"]}


async def test_a_rule_that_has_matched_is_not_evaluated_again(caplog: pytest.LogCaptureFixture) -> None:
    client = Session([rule(YES, action="LOG")])
    with caplog.at_level(logging.INFO, "koukan.policy"):
        await client.mail()
        await client.rcpt()
        await client.data()
    assert len(caplog.records) == 1


# --- when: as soon as the input is known ----------------------------------------------------------------------------------


async def test_a_rule_about_the_body_answers_the_data() -> None:
    client = Session([Learns(MessageValidationOutput(Level.BASIC)), reject(BAD)])
    assert (await client.mail() or REJECTED).ok
    assert [r.ok for r in await client.rcpt()] == [True]
    assert await client.data() == REJECTED
    assert client.sink.bodies == []


async def test_a_rule_about_the_body_answers_the_data_of_a_single_step() -> None:
    client = Session([Learns(MessageValidationOutput(Level.BASIC)), reject(BAD)])
    result = await client.everything()
    assert (result.mail or REJECTED).ok
    assert result.data == REJECTED
    assert client.sink.bodies == []


async def test_a_rule_about_a_signature_answers_the_data() -> None:
    good = DkimResult(DkimStatus.PASS, "a.example", DkimAlignment.DOMAIN)
    unsigned = {"not": {"matcher": "dkim_check"}}
    for results, answer in (((good,), None), ((), REJECTED)):
        client = Session([Learns(DkimCheckOutput(results)), reject(unsigned)])
        data = (await client.everything()).data
        assert data == answer if answer else data is not None and data.ok


async def test_a_rule_waits_for_what_stands_before_the_operand_that_would_decide_it() -> None:
    client = Session([Learns(MessageValidationOutput(Level.HIGH)), reject({"any": [BAD, YES]})])
    assert (await client.mail() or REJECTED).ok
    assert [r.ok for r in await client.rcpt()] == [True]
    assert await client.data() == REJECTED


async def test_a_rule_that_becomes_decided_with_a_recipient_rejects_it_and_all_that_follows() -> None:
    unconfirmed = {"matcher": "remote_host", "fcrdns": False}
    client = Session([Learns(RemoteHostOutput(HostStatus.NOT_FOUND), "rcpt"), reject(unconfirmed)])
    assert (await client.mail() or REJECTED).ok
    assert await client.rcpt("bob@b.example", "eve@b.example") == [REJECTED, REJECTED]
    assert await client.rcpt("joe@b.example") == [REJECTED]
    data = await client.data()
    assert data is not None
    assert data.permanent
    assert client.sink.rcpt_to == []


async def test_a_rejection_that_comes_after_accepted_recipients_takes_the_data() -> None:
    marked = {"matcher": "policy_action", "tag": "spam"}
    client = Session([rule(BOB, "spam", mode="PER_RCPT"), reject(marked)])
    assert [r.code for r in await _after_mail(client, "eve@b.example", "bob@b.example")] == [250, 550]
    assert await client.data() == REJECTED
    assert client.sink.bodies == []


async def _after_mail(client: Session, *addresses: str) -> list[Response]:
    await client.mail()
    return await client.rcpt(*addresses)


async def test_an_input_that_never_comes_never_matches() -> None:
    for match in (BAD, {"not": BAD}, {"any": [BAD, YES]}, {"all": [YES, BAD]}):
        result = await Session([reject(match)]).everything()
        assert result.data is not None
        assert result.data.ok


async def test_an_undecided_rule_holds_back_the_later_ones_of_its_tag() -> None:
    """Rules of a tag are asked in order: the second must not act before the first is known."""
    client = Session([Learns(MessageValidationOutput(Level.BASIC)), rule(BAD, name="bad"), rule(YES, name="rest")])
    await client.mail()
    await client.rcpt()
    assert client.matched is None
    await client.data()
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["bad"]}


async def test_a_held_back_rule_acts_once_the_first_is_decided() -> None:
    client = Session([Learns(MessageValidationOutput(Level.HIGH)), rule(BAD, name="bad"), rule(YES, name="rest")])
    await client.everything()
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["rest"]}


# --- rules that ask for rules ---------------------------------------------------------------------------------------------


async def test_a_rule_may_depend_on_an_earlier_one() -> None:
    for match, accepted in ((YES, False), (NO, True)):
        client = Session([rule(match, "spam"), reject({"matcher": "policy_action", "tag": "spam"})])
        mail = await client.mail()
        assert mail is not None
        assert mail.ok is accepted


async def test_what_is_not_on_the_allow_list_is_rejected_at_once() -> None:
    known = {"matcher": "network_address", "cidr": "192.0.2.0/24"}
    for cidr, code in (("192.0.2.0/24", 250), ("198.51.100.0/24", 550)):
        items = [rule({**known, "cidr": cidr}, "known"), reject({"not": {"matcher": "policy_action", "tag": "known"}})]
        mail = await Session(items).mail()
        assert mail is not None
        assert mail.code == code


async def test_a_rule_waits_while_the_one_it_depends_on_waits() -> None:
    not_bad = {"not": {"matcher": "policy_action", "rule": "bad"}}
    for validity, accepted in ((Level.BASIC, True), (Level.HIGH, False)):
        client = Session([Learns(MessageValidationOutput(validity)), rule(BAD, "x", name="bad"), reject(not_bad)])
        assert (await client.mail() or REJECTED).ok
        assert [r.ok for r in await client.rcpt()] == [True]
        data = await client.data()
        assert data is not None
        assert data.ok is accepted


async def test_a_rule_waits_for_the_last_rule_of_the_tag_it_depends_on() -> None:
    not_bad = {"not": {"matcher": "policy_action", "tag": "bad"}}
    items = [
        Learns(MessageValidationOutput(Level.BASIC)),
        rule(YES, "other"),
        rule(NO, "bad", name="cheap"),
        rule(BAD, "bad", name="thorough"),
        reject(not_bad),
    ]
    client = Session(items)
    assert (await client.mail() or REJECTED).ok
    assert [r.ok for r in await client.rcpt()] == [True]
    data = await client.data()
    assert data is not None
    assert data.ok
    assert client.matched == {"matched_tags": ["other", "bad"], "matched_rules": ["other", "thorough"]}


# --- recipient by recipient -----------------------------------------------------------------------------------------------


async def test_one_recipient_is_rejected_and_the_others_are_not() -> None:
    client = Session([reject(BOB, mode="PER_RCPT")])
    result = await client.everything("bob@b.example", "eve@b.example")
    assert [r.code for r in result.rcpt] == [550, 250]
    assert result.rcpt[0] == REJECTED
    assert result.data is not None
    assert result.data.ok
    assert [m.address for m in client.sink.rcpt_to] == ["eve@b.example"]


@pytest.mark.parametrize("pipelined", [True, False])
async def test_several_rejections_in_one_transaction(pipelined: bool) -> None:
    client = Session([reject(BOB, mode="PER_RCPT")])
    await client.mail()
    addresses = ["bob@b.example", "eve@b.example", "bob@c.example", "bob@d.example"]
    answers = await client.rcpt(*addresses) if pipelined else [(await client.rcpt(a))[0] for a in addresses]
    assert [r.code for r in answers] == [550, 250, 550, 550]
    data = await client.data()
    assert data is not None
    assert data.ok
    assert client.matched == {"matched_tags": ["t"], "matched_rules": ["t"]}


async def test_a_rule_without_a_match_still_leaves_an_output() -> None:
    client = Session([reject(BOB, mode="PER_RCPT")])
    await client.everything("eve@b.example")
    assert client.matched == {"matched_tags": [], "matched_rules": []}


@pytest.mark.parametrize("pipelined", [True, False])
async def test_too_many_recipients(pipelined: bool) -> None:
    too_many = reject({"matcher": "num_rcpts", "max_rcpts": 2}, mode="PER_RCPT", code=452, message="4.5.3 too many")
    client = Session([too_many])
    await client.mail()
    addresses = [f"r{i}@b.example" for i in range(4)]
    answers = await client.rcpt(*addresses) if pipelined else [(await client.rcpt(a))[0] for a in addresses]
    assert [r.code for r in answers] == [250, 250, 452, 452]


async def test_recipients_that_were_refused_do_not_count() -> None:
    items = [reject(BOB, "a", mode="PER_RCPT"), reject({"matcher": "num_rcpts", "max_rcpts": 1}, "b", mode="PER_RCPT")]
    client = Session(items)
    await client.mail()
    answers = await client.rcpt("bob@b.example", "eve@b.example", "joe@b.example")
    assert [r.code for r in answers] == [550, 250, 550]


async def test_per_recipient_without_match_acts_on_each() -> None:
    client = Session([reject(mode="PER_RCPT")])
    await client.mail()
    assert await client.rcpt("bob@b.example", "eve@b.example") == [REJECTED, REJECTED]


# --- weights --------------------------------------------------------------------------------------------------------------


async def test_weighted_actions_are_chosen_by_their_weight() -> None:
    context = make_context()
    chain = make_chain([rule(action=[[9, "LOG"], [1, "REJECT"]])], RecordingSink(), context)
    rejected = 0
    for _ in range(1000):
        result = await chain.open(make_transaction()).step(make_step("ann@a.example"))
        rejected += result.mail is not None and result.mail.failed
    assert 60 < rejected < 140  # 100 ± 4 standard deviations


@pytest.mark.parametrize(("action", "code"), [([[0, "LOG"], [1, "REJECT"]], 550), ([[1, "LOG"], [0, "REJECT"]], 250)])
async def test_an_action_without_weight_is_never_chosen(action: list[Any], code: int) -> None:
    for _ in range(50):
        mail = await Session([rule(action=action)]).mail()
        assert mail is not None
        assert mail.code == code


# --- the From field -------------------------------------------------------------------------------------------------------

FROM_A = {"matcher": "address_list", "which_addr": "header_from", "domains": ["a.example"]}


@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        (b"From: ann@a.example\r\n\r\nx\r\n", False),
        (b"Subject: x\r\nfrom: Ann\r\n <Ann@A.Example>\r\n\r\nx\r\n", False),
        (b"From: eve@e.example, ann@a.example\r\n\r\n", False),
        (b"From: eve@e.example\r\n\r\nFrom: ann@a.example\r\n", True),
        (b"Subject: nobody\r\n\r\nx\r\n", True),
        (b"From: <>\r\n\r\n", True),
    ],
)
async def test_the_from_field_is_looked_at(message: bytes, accepted: bool) -> None:
    client = Session([reject(FROM_A)])
    result = await client.everything(body=message)
    assert (result.mail or REJECTED).ok
    assert result.data is not None
    assert result.data.ok is accepted


async def test_a_chain_waits_for_the_body_only_for_the_from_field() -> None:
    assert not make_chain([reject(BAD), reject(TLS, "u")], RecordingSink()).waits_for_body
    assert make_chain([reject({"not": FROM_A})], RecordingSink()).waits_for_body
