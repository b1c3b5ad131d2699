"""Matchers and expressions: yes, no, and not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter

from koukan.blob.bodies import BytesBody
from koukan.chain.matchers.expression import compile_expression
from koukan.chain.matchers.simple import HeaderFrom
from koukan.chain.outputs import (
    DkimAlignment,
    DkimCheckOutput,
    DkimResult,
    DkimStatus,
    DnsResolutionOutput,
    DnsStatus,
    HostStatus,
    MessageValidationOutput,
    PolicyActionOutput,
    RemoteHostOutput,
    SpfCheckOutput,
    SpfStatus,
)
from koukan.chain.plugins import Plugins
from koukan.chain.transaction import FilterOutput, Recipient, Transaction
from koukan.config.matchers import MATCHER_NAMES, MatchExpression
from koukan.message.validation import Level
from koukan.model import HostPort, Mailbox, Response, Sender, SmtpMeta

_EXPRESSION: TypeAdapter[Any] = TypeAdapter(MatchExpression)


def verdict(
    expression: Mapping[str, Any],
    tx: Transaction | None = None,
    rcpt: str | None = None,
    plugins: Plugins | None = None,
) -> bool | None:
    match = compile_expression(_EXPRESSION.validate_python(expression), plugins or Plugins())
    return match(tx or make_tx(), None if rcpt is None else Recipient(Mailbox(rcpt), 0))


def make_tx(*outputs: FilterOutput, mail_from: str | None = None, **fields: Any) -> Transaction:
    tx = Transaction("tx1", Sender("test"), **fields)
    tx.mail_from = None if mail_from is None else Mailbox(mail_from)
    for output in outputs:
        tx.add_output(output)
    return tx


# --- expressions ----------------------------------------------------------------------------------------------------------

YES, UNKNOWN = {"matcher": "hello"}, {"matcher": "smtp_tls"}
NO = {"not": YES}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (YES, True),
        (NO, False),
        (UNKNOWN, None),
        ({"not": NO}, True),
        ({"not": UNKNOWN}, None),
        ({"any": [NO, NO]}, False),
        ({"any": [NO, YES]}, True),
        ({"any": [YES, UNKNOWN]}, True),
        ({"any": [UNKNOWN, YES]}, None),
        ({"any": [NO, UNKNOWN, YES]}, None),
        ({"any": [NO, UNKNOWN]}, None),
        ({"all": [YES, YES]}, True),
        ({"all": [YES, NO]}, False),
        ({"all": [NO, UNKNOWN]}, False),
        ({"all": [UNKNOWN, NO]}, None),
        ({"all": [YES, UNKNOWN]}, None),
        ({"not": {"all": [YES, {"any": [NO, {"not": NO}]}]}}, False),
    ],
)
def test_expressions(expression: Mapping[str, Any], expected: bool | None) -> None:
    assert verdict(expression) is expected


def test_no_expression_always_matches() -> None:
    assert compile_expression(None, Plugins())(make_tx(), None) is True


def test_a_plug_in_gets_its_options_and_the_recipient() -> None:
    seen: list[Any] = []

    def match(options: Mapping[str, Any], tx: Transaction, recipient: Recipient | None) -> bool | None:
        seen.append((dict(options), tx.id, None if recipient is None else recipient.mailbox.address))
        answer: bool | None = options["answer"]
        return answer

    plugins = Plugins(matchers={"own": match})
    for answer in (True, False, None):
        assert verdict({"matcher": "own", "answer": answer}, rcpt="bob@b.example", plugins=plugins) is answer
    assert seen[0] == ({"answer": True}, "tx1", "bob@b.example")


def test_every_name_that_a_configuration_may_use_has_a_matcher() -> None:
    required = {"network_address": {"cidr": "192.0.2.0/24"}, "num_rcpts": {"max_rcpts": 1}}
    for name in MATCHER_NAMES:
        assert verdict({"matcher": name, **required.get(name, {})}) in (True, None)


# --- the envelope and the client ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail_from", "invalid"),
    [(None, None), ("", False), ("ann@a.example", False), ("ann", True), ("ann@a.example>", True), ("a..b@c.d", True)],
)
def test_invalid_mail_from(mail_from: str | None, invalid: bool | None) -> None:
    assert verdict({"matcher": "invalid_mail_from"}, make_tx(mail_from=mail_from)) is invalid


@pytest.mark.parametrize(
    ("rcpt", "invalid"),
    [
        *((None, None), ("", True), ("bob", True), ("bob@b.example", False)),
        *(("Postmaster", False), ("POSTMASTER", False), ("postmaster@", True)),
        *(("a..b@c.d", True), ("a.@c.d", True), ("bob@b_c.example", True)),
    ],
)
def test_invalid_rcpt_to(rcpt: str | None, invalid: bool | None) -> None:
    assert verdict({"matcher": "invalid_rcpt_to"}, rcpt=rcpt) is invalid


@pytest.mark.parametrize(
    ("options", "mail_from", "expected"),
    [
        ({}, None, None),
        ({}, "", False),
        ({}, "ann@a.example", True),
        ({}, "ann@a.example>", False),
        ({"domains": ["A.example"]}, "ann@a.Example", True),
        ({"domains": ["b.example"]}, "ann@a.example", False),
        ({"prefixes": ["ann"], "delimiter": "-"}, "ann-x@a.example", True),
        ({"domains": ["docomo.ne.jp"]}, "try..this..0511.@docomo.ne.jp", True),
        ({"domains": ["mail_1.a.example"]}, "ann@mail_1.a.example", True),
        ({"prefixes": ["postmaster"]}, "Postmaster", False),
    ],
)
def test_address_list_of_the_reverse_path(
    options: dict[str, Any], mail_from: str | None, expected: bool | None
) -> None:
    assert verdict({"matcher": "address_list", **options}, make_tx(mail_from=mail_from)) is expected


@pytest.mark.parametrize(
    ("rcpt", "expected"),
    [(None, None), ("bob@b.example", True), ("bob@c.example", False), ("b..ob@b.example", True), ("Postmaster", False)],
)
def test_address_list_of_the_recipient(rcpt: str | None, expected: bool | None) -> None:
    options = {"matcher": "address_list", "which_addr": "rcpt_to", "domains": ["b.example"]}
    assert verdict(options, make_tx(mail_from="ann@a.example"), rcpt) is expected


async def test_address_list_of_the_from_field_takes_what_phones_in_japan_send() -> None:
    tx = make_tx(mail_from="a@b.example")
    body = BytesBody(b"Subject: =?ISO-2022-JP?B?GyRCJDMbKEI=?=\r\nFrom: try..this..0511.@docomo.ne.jp\r\n\r\n")
    await HeaderFrom.read(tx, body)
    options = {"matcher": "address_list", "which_addr": "header_from", "domains": ["docomo.ne.jp"]}
    assert verdict(options, tx) is True


def test_address_list_of_the_from_field_is_unknown_before_the_body() -> None:
    assert verdict({"matcher": "address_list", "which_addr": "header_from"}, make_tx(mail_from="a@b.example")) is None


@pytest.mark.parametrize(
    ("cidr", "host", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "198.51.100.7", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("192.0.2.0/24", "client.example", None),
        ("192.0.2.0/24", None, None),
    ],
)
def test_network_address(cidr: str, host: str | None, expected: bool | None) -> None:
    tx = make_tx(remote_host=None if host is None else HostPort(host, 1))
    assert verdict({"matcher": "network_address", "cidr": cidr}, tx) is expected


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ([], False),
        ([Response(250, "ok")], False),
        ([Response(250, "ok"), None], True),
        ([Response(250, "ok"), Response(550, "no")], False),
        ([Response(250, "ok"), Response(550, "no"), Response(250, "ok")], True),
    ],
)
def test_num_rcpts(responses: list[Response | None], expected: bool) -> None:
    tx = make_tx(recipients=[Recipient(Mailbox("x@b.example"), i, r) for i, r in enumerate(responses)])
    this = Recipient(Mailbox("bob@b.example"), len(responses))
    tx.recipients.append(this)
    match = compile_expression(_EXPRESSION.validate_python({"matcher": "num_rcpts", "max_rcpts": 2}), Plugins())
    assert match(tx, this) is expected
    assert match(tx, None) is None


def test_tls_and_authentication_are_unknown_for_rest_clients() -> None:
    for name in ("smtp_tls", "tls", "smtp_auth"):
        assert verdict({"matcher": name}) is None


@pytest.mark.parametrize(
    ("meta", "tls", "auth"),
    [
        (SmtpMeta("c.example"), False, False),
        (SmtpMeta("c.example", tls=True), True, False),
        (SmtpMeta("c.example", auth=True), False, True),
        (SmtpMeta("c.example", auth=False), False, False),
    ],
)
def test_tls_and_authentication(meta: SmtpMeta, tls: bool, auth: bool) -> None:
    tx = make_tx(smtp_meta=meta)
    assert verdict({"matcher": "smtp_tls"}, tx) is tls
    assert verdict({"matcher": "smtp_auth"}, tx) is auth


# --- what filters have learned --------------------------------------------------------------------------------------------

CONFIRMED = RemoteHostOutput(HostStatus.OK, fcrdns=True, ehlo_alignment=False, remote_hostname="c.example.")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"fcrdns": True}, True),
        ({"fcrdns": False}, False),
        ({"ehlo_alignment": False}, True),
        ({"fcrdns": True, "ehlo_alignment": True}, False),
        ({"fcrdns": True, "ehlo_alignment": False}, True),
    ],
)
def test_remote_host(options: dict[str, Any], expected: bool) -> None:
    for name in ("remote_host", "koukan.remote_host_filter.RemoteHostFilter"):
        assert verdict({"matcher": name, **options}, make_tx(CONFIRMED)) is expected
        assert verdict({"matcher": name, **options}) is None


@pytest.mark.parametrize(
    ("options", "status", "count", "expected"),
    [
        ({"validity_threshold": "HIGH"}, Level.MEDIUM, 1, True),
        ({"validity_threshold": "HIGH"}, Level.HIGH, 1, False),
        ({"validity_threshold": "BASIC"}, Level.NONE, None, True),
        ({"validity_threshold": "NONE"}, Level.NONE, None, False),
        ({"max_received_headers": 2}, Level.HIGH, 3, True),
        ({"max_received_headers": 2}, Level.HIGH, 2, False),
        ({"max_received_headers": 2}, Level.NONE, None, None),
        ({"validity_threshold": "HIGH", "max_received_headers": 2}, Level.BASIC, 3, True),
        ({"validity_threshold": "HIGH", "max_received_headers": 2}, Level.BASIC, 2, False),
        ({"validity_threshold": "HIGH", "max_received_headers": 2}, Level.HIGH, 3, False),
        ({}, Level.HIGH, 1, True),
    ],
)
def test_message_validation_matches_bad_messages(
    options: dict[str, Any], status: Level, count: int | None, expected: bool | None
) -> None:
    tx = make_tx(MessageValidationOutput(status, received_header_count=count))
    assert verdict({"matcher": "message_validation", **options}, tx) is expected


SPF = SpfCheckOutput(SpfStatus.FAIL, {"GW.example": SpfStatus.PASS})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mail_from_result": "fail"}, True),
        ({"mail_from_result": "pass"}, False),
        ({"extra_domain": "gw.EXAMPLE", "extra_domain_result": "spf_pass"}, True),
        ({"extra_domain": "gw.example", "extra_domain_result": "fail"}, False),
        ({"extra_domain": "other.example", "extra_domain_result": "fail"}, None),
        ({"mail_from_result": "fail", "extra_domain": "gw.example", "extra_domain_result": "pass"}, True),
        ({"mail_from_result": "none", "extra_domain": "gw.example", "extra_domain_result": "pass"}, False),
        ({}, True),
    ],
)
def test_spf(options: dict[str, Any], expected: bool | None) -> None:
    for name in ("spf_check", "koukan.spf_check_filter.SpfCheckFilter", "koukan.remote_host_filter.SpfCheckFilter"):
        assert verdict({"matcher": name, **options}, make_tx(SPF)) is expected
        assert verdict({"matcher": name, **options}) is None


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("pass", SpfStatus.PASS),
        ("spf_pass", SpfStatus.PASS),
        ("fail", SpfStatus.FAIL),
        ("softfail", SpfStatus.SOFTFAIL),
        ("neutral", SpfStatus.NEUTRAL),
        ("none", SpfStatus.NONE),
        ("temperror", SpfStatus.TEMPERROR),
        ("temp_error", SpfStatus.TEMPERROR),
        ("permerror", SpfStatus.PERMERROR),
        ("perm_error", SpfStatus.PERMERROR),
    ],
)
def test_every_spf_verdict_has_its_name(name: str, status: SpfStatus) -> None:
    for other in SpfStatus:
        tx = make_tx(SpfCheckOutput(other))
        assert verdict({"matcher": "spf_check", "mail_from_result": name}, tx) is (other is status)


def dkim(status: DkimStatus, domain: str | None, alignment: DkimAlignment | None) -> DkimResult:
    return DkimResult(status, domain, alignment)


EXACT = dkim(DkimStatus.PASS, "a.example", DkimAlignment.DOMAIN)
SIBLING = dkim(DkimStatus.PASS, "mail.a.example", DkimAlignment.SAME_SLD)
STRANGER = dkim(DkimStatus.PASS, "Esp.example", DkimAlignment.OTHER)
NO_FROM = dkim(DkimStatus.PASS, "esp.example", None)
FORGED = dkim(DkimStatus.FAIL, "a.example", DkimAlignment.DOMAIN)


@pytest.mark.parametrize(
    ("options", "results", "expected"),
    [
        ({}, (), False),
        ({}, (SIBLING,), True),
        ({}, (STRANGER,), False),
        ({}, (FORGED, EXACT), True),
        ({}, (STRANGER, EXACT), True),
        ({"alignment": "domain"}, (SIBLING,), False),
        ({"alignment": "domain"}, (EXACT,), True),
        ({"alignment": "other"}, (STRANGER,), True),
        ({"alignment": "other"}, (NO_FROM,), True),
        ({"alignment": "same_sld"}, (NO_FROM,), False),
        ({"status": "fail"}, (FORGED,), True),
        ({"status": "fail"}, (EXACT,), False),
        ({"status": "temp_err"}, (dkim(DkimStatus.TEMP_ERR, None, DkimAlignment.DOMAIN),), True),
        ({"status": "unknown_algo"}, (dkim(DkimStatus.UNKNOWN_ALGO, None, DkimAlignment.DOMAIN),), True),
        ({"domains": ["ESP.example"]}, (EXACT, STRANGER), True),
        ({"domains": ["esp.example"]}, (EXACT,), False),
        ({"domains": ["a.example"]}, (FORGED,), False),
    ],
)
def test_dkim(options: dict[str, Any], results: tuple[DkimResult, ...], expected: bool) -> None:
    for name in ("dkim_check", "koukan.dkim_check_filter.DkimCheckFilter", "koukan.remote_host_filter.DkimCheckFilter"):
        assert verdict({"matcher": name, **options}, make_tx(DkimCheckOutput(results))) is expected
        assert verdict({"matcher": name, **options}) is None


DNS = DnsResolutionOutput(DnsStatus.OK, (DnsStatus.NX,))


@pytest.mark.parametrize(
    ("options", "rcpt", "expected"),
    [
        ({"mail_result": "OK"}, None, True),
        ({"mail_result": "NX"}, None, False),
        ({"rcpt_result": "NX"}, "bob@b.example", True),
        ({"rcpt_result": "TEMP"}, "bob@b.example", False),
        ({"rcpt_result": "NX"}, None, None),
        ({"resolution_result": "OK"}, None, None),
        ({"mail_result": "NX", "resolution_result": "OK"}, None, False),
        ({"mail_result": "OK", "resolution_result": "OK"}, None, None),
    ],
)
def test_dns_resolution(options: dict[str, Any], rcpt: str | None, expected: bool | None) -> None:
    assert verdict({"matcher": "dns_resolution", **options}, make_tx(DNS), rcpt) is expected
    assert verdict({"matcher": "dns_resolution", **options}, rcpt=rcpt) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tag": "a"}, True),
        ({"tag": "b"}, False),
        ({"rule": "r"}, True),
        ({"rule": "a"}, False),
        ({"tag": "b", "rule": "r"}, True),
        ({"tag": "a", "rule": "x"}, True),
    ],
)
def test_policy_action(options: dict[str, Any], expected: bool) -> None:
    for name in ("policy_action", "koukan.policy_action_filter.PolicyActionFilter"):
        assert verdict({"matcher": name, **options}, make_tx(PolicyActionOutput(("a",), ("r",)))) is expected
        assert verdict({"matcher": name, **options}) is None
