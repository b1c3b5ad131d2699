"""dkim_sign and dkim_check, by their options as they stand in router.yaml."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.chain.filter import Context
from koukan.chain.outputs import DkimAlignment, DkimCheckOutput, DkimStatus
from koukan.config.router import DnsConfig
from koukan.errors import ConfigError, Overloaded
from koukan.message.headers import parse_headers
from koukan.model import Response
from koukan.net.dns import Resolver
from tests.support.chains import RecordingSink, make_chain, make_context, make_step, make_transaction
from tests.support.dkim_keys import KeyPair, ed25519_key, rsa_key
from tests.support.nameserver import NameServer

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
MESSAGE = (
    b"Received: x\r\nReturn-Path: <a@example.com>\r\nFrom: Ann <ann@example.com>\r\nTo: bob@example.org\r\nBcc: c@d.example\r\n"
    b"Subject: hi\r\nAuthentication-Results: x; none\r\nList-Id: <l.example.com>\r\n\r\nHello\r\n"
)
FROM = b"Ann <ann@example.com>"


@pytest.fixture(scope="module")
def rsa() -> KeyPair:
    return rsa_key()


@pytest.fixture(scope="module")
def ed25519() -> KeyPair:
    return ed25519_key()


@pytest.fixture
async def server(rsa: KeyPair, ed25519: KeyPair) -> AsyncIterator[NameServer]:
    zone = "".join(
        [
            *(rsa.zone(domain, "s1") for domain in ("example.com", "mail.example.com", "other.example")),
            ed25519.zone("example.com", "s2"),
            "s3._domainkey.example.com TXT !servfail\n",
        ]
    )
    async with NameServer(zone) as server:
        yield server


@pytest.fixture
def context(server: NameServer) -> Context:
    context = make_context(Resolver(DnsConfig(nameservers=[server.address])))
    context.now = lambda: NOW
    return context


async def sign(options: Mapping[str, Any], message: bytes = MESSAGE) -> bytes:
    sink, context = RecordingSink(), make_context()
    context.now = lambda: NOW
    chain = make_chain([{"filter": "dkim_sign", **options}], sink, context)
    await chain.open(make_transaction()).step(make_step("a@b.example", ["c@d.example"], message))
    return sink.bodies[0]


async def check(context: Context, message: bytes, *earlier: str) -> DkimCheckOutput:
    tx = make_transaction()
    chain = make_chain([{"filter": name} for name in (*earlier, "dkim_check")], RecordingSink(), context)
    result = await chain.open(tx).step(make_step("a@b.example", ["c@d.example"], message))
    assert result.data == Response(250, "ok")
    output = tx.output(DkimCheckOutput)
    assert output is not None
    return output


def keys(path: Path, *entries: tuple[str, str, KeyPair]) -> list[dict[str, str]]:
    return [
        {"domain": domain, "selector": selector, "key": key.write(path / f"{domain}-{selector}.pem")}
        for domain, selector, key in entries
    ]


async def test_signed_and_checked(context: Context, rsa: KeyPair, ed25519: KeyPair, tmp_path: Path) -> None:
    options = {"keys": keys(tmp_path, ("example.com", "s1", rsa), ("Example.COM", "s2", ed25519))}
    message = await sign(options)
    assert message.endswith(MESSAGE)
    output = await check(context, message)
    assert [result.status for result in output.results] == [DkimStatus.PASS] * 2
    assert output.to_json()["results"][0] == {
        "status": 1,
        "alignment": 0,
        "domain": "example.com",
        "headers": list(output.results[0].headers),
        "timestamp": int(NOW.timestamp()),
        "tags": {"v": "1", "a": "rsa-sha256", "c": "relaxed/simple", "s": "s1"},
    }


async def test_what_is_signed(rsa: KeyPair, tmp_path: Path, context: Context) -> None:
    message = await sign({"keys": keys(tmp_path, ("example.com", "s1", rsa))})
    [result] = (await check(context, message)).results
    signed = list(result.headers)
    assert [name for name in signed if signed.count(name) == 2] == ["from", "from", "subject", "subject", "to", "to"]
    assert {"date", "cc", "reply-to", "content-type", "list-id"} <= set(signed)
    assert not {"bcc", "received", "return-path", "authentication-results", "dkim-signature"} & set(signed)


@pytest.mark.parametrize(
    ("author", "domain"),
    [
        (b"ann@example.com", b"example.com"),
        (b"ann@EXAMPLE.com", b"example.com"),
        (b"ann@sub.example.com", b"example.com"),
        (b"ann@mail.example.com", b"mail.example.com"),
        (b"ann@a.mail.example.com", b"mail.example.com"),
        (b"x <ann@mail.example.com>, eve@example.com", b"mail.example.com"),
        (b"ann@xn--bcher-kva.example", b"xn--bcher-kva.example"),
        ("ann@bücher.example".encode(), b"xn--bcher-kva.example"),
        (b"ann@badexample.com", None),
        (b"nobody", None),
        (b"", None),
    ],
)
async def test_the_key_follows_from(author: bytes, domain: bytes | None, rsa: KeyPair, tmp_path: Path) -> None:
    entries = [(name, "s1", rsa) for name in ("example.com", "mail.example.com", "bücher.example")]
    options = {"keys": keys(tmp_path, *entries), "when_unsignable": "pass"}
    message = await sign(options, MESSAGE.replace(FROM, author))
    if domain is None:
        assert message == MESSAGE.replace(FROM, author)
    else:
        assert message.count(b"DKIM-Signature:") == 1
        assert b"\td=" + domain + b";" in message


async def test_the_one_key_of_old_configurations_signs_whatever_comes(rsa: KeyPair, tmp_path: Path) -> None:
    options = {"key": rsa.write(tmp_path / "key.pem"), "domain": "esp.example", "selector": "s1"}
    assert (await sign(options)).startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple;\r\n\td=esp.example;")
    unsigned = await sign(options | {"when_unsignable": "pass"}, b"Subject: no From\r\n\r\n")
    assert unsigned == b"Subject: no From\r\n\r\n"
    options["keys"] = keys(tmp_path, ("example.com", "s1", rsa))
    assert b"d=example.com;" in await sign(options)


NO_KEY = "no key is for the domain of its From, 'other.example'"
OTHER = MESSAGE.replace(FROM, b"Eve <eve@other.example>")


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        (OTHER, NO_KEY),
        (MESSAGE.replace(FROM, b"nobody"), "its From is no address"),
        (MESSAGE.replace(b"From: Ann <ann@example.com>\r\n", b""), "it has no From header"),
    ],
)
@pytest.mark.parametrize(
    ("given", "mail_from", "refused"),
    [
        ({}, "a@b.example", True),
        ({}, "", False),
        ({"when_unsignable": "reject"}, "a@b.example", True),
        ({"when_unsignable": "reject"}, "", True),
        ({"when_unsignable": "pass"}, "a@b.example", False),
    ],
)
async def test_nothing_leaves_unsigned_in_silence(
    message: bytes,
    trouble: str,
    given: dict[str, str],
    mail_from: str,
    refused: bool,
    rsa: KeyPair,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = RecordingSink()
    options = {"filter": "dkim_sign", "keys": keys(tmp_path, ("example.com", "s1", rsa)), **given}
    result = (
        await make_chain([options], sink).open(make_transaction()).step(make_step(mail_from, ["c@d.example"], message))
    )
    if refused:
        assert result.data == Response(550, f"5.7.1 the message cannot be signed: {trouble} (dkim_sign)")
    assert sink.bodies == ([] if refused else [message])
    assert f"{'refused' if refused else 'sent unsigned'} by dkim_sign: {trouble}" in caplog.text


async def test_the_one_key_can_be_told_to_sign_for_its_own_domain_only(
    rsa: KeyPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"key": rsa.write(tmp_path / "key.pem"), "domain": "example.com", "selector": "s1"}
    assert b"d=example.com;" in await sign(options, OTHER)
    assert f"signed for another domain by dkim_sign: {NO_KEY}" in caplog.text
    chain = make_chain([{"filter": "dkim_sign", **options, "when_unsignable": "reject"}], RecordingSink())
    result = await chain.open(make_transaction()).step(make_step("a@b.example", ["c@d.example"], OTHER))
    assert result.data is not None and result.data.code == 550 and NO_KEY in result.data.message


async def test_lines_of_the_signature_are_short(rsa: KeyPair, tmp_path: Path) -> None:
    message = await sign({"keys": keys(tmp_path, ("example.com", "s1", rsa))})
    head = message[: message.index(b"Received:")]
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert [field.name for field in parse_headers(head + b"\r\n")[0]] == ["DKIM-Signature"]


async def test_without_keys_the_filter_is_off() -> None:
    assert await sign({}) == MESSAGE


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"key": "/nonexistent/key.pem", "domain": "a.example", "selector": "s"}, "/nonexistent/key.pem: No such file"),
        ({"keys": [{"domain": "a.example", "selector": "ü", "key": "x"}]}, "selector 'ü' is no part of a domain"),
    ],
)
async def test_bad_options_are_errors_at_the_start(options: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"dkim_sign: {reason}"):
        await sign(options)


async def test_too_much_work_is_a_temporary_answer(
    rsa: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*arguments: object) -> None:
        raise Overloaded("too much work")

    monkeypatch.setattr("koukan.auth.dkim.sign.run_bounded", refuse)
    monkeypatch.setattr("koukan.auth.dkim.keys.RECOMMENDED_RSA_BITS", 1024)
    options = {"filter": "dkim_sign", "keys": keys(tmp_path, ("example.com", "s1", rsa))}
    run = make_chain([options], RecordingSink()).open(make_transaction())
    result = await run.step(make_step("a@b.example", ["c@d.example"], MESSAGE))
    assert result.data == Response(451, "4.3.2 too busy to sign, try again later")


async def test_too_many_large_messages_get_a_temporary_answer(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*arguments: object) -> None:
        raise Overloaded("too much work")

    monkeypatch.setattr("koukan.auth.dkim.hashing.run_bounded", refuse)
    content = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.b; s=c; h=from; bh=AA==; b=AA==\r\n" + MESSAGE + bytes(2**20)
    run = make_chain([{"filter": "dkim_check"}], RecordingSink(), context).open(make_transaction())
    result = await run.step(make_step("a@b.example", ["c@d.example"], content))
    assert result.data == Response(451, "4.3.2 too busy to verify signatures, try again later")


@pytest.mark.parametrize("earlier", [[], ["message_validation"]])
@pytest.mark.parametrize(
    ("author", "alignment"),
    [
        (b"ann@example.com", DkimAlignment.DOMAIN),
        (b"ann@EXAMPLE.COM", DkimAlignment.DOMAIN),
        (b"ann@sub.example.com", DkimAlignment.SAME_SLD),
        (b"ann@other.example", DkimAlignment.OTHER),
        (b"ann@example.com, eve@example.com", None),
        (b"nobody", None),
        (b"<<>>", None),
        (b"x@a.example\r\nFrom: y@b.example", None),
    ],
)
async def test_alignment(
    author: bytes, alignment: DkimAlignment | None, earlier: list[str], context: Context, rsa: KeyPair, tmp_path: Path
) -> None:
    options = {"key": rsa.write(tmp_path / "key.pem"), "domain": "example.com", "selector": "s1"}
    message = await sign(options, MESSAGE.replace(FROM, author))
    [result] = (await check(context, message, *earlier)).results
    assert (result.status, result.alignment) == (DkimStatus.PASS, alignment)
    assert ("alignment" in result.to_json()) == (alignment is not None)


@pytest.mark.parametrize(
    ("selector", "status", "reason"),
    [
        (b"s=s3", DkimStatus.TEMP_ERR, "the key could not be looked up"),
        (b"s=s4", DkimStatus.FAIL, "no key"),
        (b"s=s2", DkimStatus.FAIL, "the key is of another type than the signature"),
    ],
)
async def test_only_dns_trouble_is_temporary(
    selector: bytes, status: DkimStatus, reason: str, context: Context, rsa: KeyPair, tmp_path: Path
) -> None:
    message = await sign({"keys": keys(tmp_path, ("example.com", "s1", rsa))})
    [result] = (await check(context, message.replace(b"s=s1", selector))).results
    assert (result.status, result.reason) == (status, reason)


async def test_signatures_beyond_the_bound_are_logged(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    output = await check(context, b"DKIM-Signature: v=1; a=falcon; d=A.example\r\n" * 12 + MESSAGE)
    assert len(output.results) == 10
    assert output.results[0].domain == "a.example"
    [record] = caplog.records
    assert (record.getMessage(), record.__dict__["fields"]["ignored"]) == (
        "only the first 10 signatures were verified",
        2,
    )


async def test_without_signatures_there_are_no_results(context: Context) -> None:
    assert (await check(context, MESSAGE)).to_json() == {"results": []}


async def test_tags_of_any_length_do_not_grow_the_output(context: Context) -> None:
    head = b"DKIM-Signature: v=1; a=falcon; z=" + b"x" * 100_000 + b"; n=note\r\n"
    [result] = (await check(context, head + MESSAGE)).results
    assert result.tags == {"v": "1", "a": "falcon", "n": "note"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.binary(max_size=400))
async def test_any_bytes_get_a_verdict(context: Context, data: bytes) -> None:
    for message in (data, b"DKIM-Signature: " + data + b"\r\n" + MESSAGE, b"From: " + data):
        output = await check(context, message)
        assert all(result.status is not DkimStatus.PASS for result in output.results)
