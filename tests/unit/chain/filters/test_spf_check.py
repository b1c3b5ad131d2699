from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.chain.outputs import SpfCheckOutput, SpfStatus
from koukan.config.filters import SpfCheck
from koukan.net.dns import Resolver
from tests.support.chains import MESSAGE, RecordingSink, make_chain, make_context, make_transaction, send
from tests.support.nameserver import NameServer

ZONE = """
a.example            TXT  "v=spf1 ip4:192.0.2.1 -all exp=why.a.example"
why.a.example        TXT  "%{i} sends no mail of %{d} to %{r}"
soft.example         TXT  "v=spf1 ~all"
moo.example          TXT  "v=spf1 moo"
servfail.example     TXT  !servfail
client.example       TXT  "v=spf1 ip4:192.0.2.1 -all"
gw.example           TXT  "v=spf1 a:gw.example -all"
gw.example           A    192.0.2.1
local.example        TXT  "v=spf1 exists:%{l}.seen.example -all"
postmaster.seen.example A 127.0.0.2
"""


async def check(
    resolver: Resolver,
    mail_from: str = "ann@a.example",
    client: str | None = "192.0.2.1",
    ehlo: str | None = "client.example",
    **options: Any,
) -> tuple[SpfCheckOutput, Message]:
    """The output, and the message that the sink got."""
    tx, sink = make_transaction(client, ehlo), RecordingSink()
    chain = make_chain([{"filter": "spf_check", **options}], sink, make_context(resolver))
    result = await send(chain, tx, mail_from)
    assert result.data is not None
    assert result.data.ok
    output = tx.output(SpfCheckOutput)
    assert output is not None
    assert sink.bodies[0].endswith(MESSAGE)
    return output, message_from_bytes(sink.bodies[0])


@pytest.mark.parametrize(
    ("mail_from", "client", "status"),
    [
        ("ann@a.example", "192.0.2.1", SpfStatus.PASS),
        ("ann@A.Example", "::ffff:192.0.2.1", SpfStatus.PASS),
        ("ann@a.example", "192.0.2.2", SpfStatus.FAIL),
        ("ann@soft.example", "192.0.2.1", SpfStatus.SOFTFAIL),
        ("ann@moo.example", "192.0.2.1", SpfStatus.PERMERROR),
        ("ann@servfail.example", "192.0.2.1", SpfStatus.TEMPERROR),
        ("ann@nowhere.example", "192.0.2.1", SpfStatus.NONE),
        ("ann", "192.0.2.1", SpfStatus.NONE),
        ("ann@[192.0.2.1]", "192.0.2.1", SpfStatus.NONE),
    ],
)
async def test_the_domain_of_the_envelope_sender(
    resolver: Resolver, mail_from: str, client: str, status: SpfStatus
) -> None:
    output, message = await check(resolver, mail_from, client)
    assert output.mail_from_result is status
    assert output.to_json() == {"mail_from_result": int(status)}
    fields = message.get_all("Received-SPF", [])
    assert [field.split()[0] for field in fields] == ([status.name.lower()] if "@" in mail_from else [])


async def test_the_field_says_what_was_checked(resolver: Resolver) -> None:
    output, message = await check(resolver, client="192.0.2.2", received_hostname="mx.example.org")
    assert output.domain == "a.example"
    assert output.explanation == "192.0.2.2 sends no mail of a.example to mx.example.org"
    assert message.keys()[0] == "Received-SPF"
    assert " ".join(message["Received-SPF"].split()) == (
        "fail (mx.example.org: domain of a.example does not designate 192.0.2.2 as permitted sender)"
        ' receiver=mx.example.org; client-ip=192.0.2.2; envelope-from="ann@a.example"; helo=client.example;'
        " identity=mailfrom; mechanism=-all"
    )


async def test_the_null_sender_is_postmaster_at_the_ehlo_name(resolver: Resolver) -> None:
    output, message = await check(resolver, "")
    assert (output.mail_from_result, output.domain) == (SpfStatus.PASS, "client.example")
    assert "identity=helo" in message["Received-SPF"]
    output, _ = await check(resolver, "", ehlo="local.example")
    assert output.mail_from_result is SpfStatus.PASS


@pytest.mark.parametrize("mail_from", ["@local.example", '""@local.example', "@LOCAL.example"])
async def test_without_a_local_part_it_is_the_postmasters(resolver: Resolver, mail_from: str) -> None:
    output, message = await check(resolver, mail_from)
    assert (output.mail_from_result, output.domain) == (SpfStatus.PASS, "local.example")
    assert "identity=mailfrom" in message["Received-SPF"]
    output, _ = await check(resolver, "ann@local.example")
    assert output.mail_from_result is SpfStatus.FAIL


@pytest.mark.parametrize("key", ["extra_domains", "domains"])
async def test_extra_domains(resolver: Resolver, key: str) -> None:
    domains = ["gw.example", "local.example", "soft.example", "gw.example"]
    output, message = await check(resolver, "ann@moo.example", **{key: domains})
    assert output.to_json() == {
        "mail_from_result": 2,
        "extra_domains_results": {"gw.example": 1, "local.example": 1, "soft.example": 4},
    }
    assert len(message.get_all("Received-SPF", [])) == 1


@pytest.mark.parametrize(
    ("client", "ehlo"), [(None, None), (None, "client.example"), ("mail.example", "client.example"), ("", None)]
)
async def test_rest_clients_without_an_address_are_not_checked(
    resolver: Resolver, server: NameServer, client: str | None, ehlo: str | None
) -> None:
    output, message = await check(resolver, client=client, ehlo=ehlo, extra_domains=["gw.example"])
    assert output.to_json() == {"mail_from_result": 5, "extra_domains_results": {"gw.example": 5}}
    assert "Received-SPF" not in message
    assert not server.queries


async def test_rest_clients_with_an_address_need_no_ehlo_name(resolver: Resolver) -> None:
    output, message = await check(resolver, ehlo=None)
    assert output.mail_from_result is SpfStatus.PASS
    assert "helo=" not in message["Received-SPF"]
    output, message = await check(resolver, "", ehlo=None)
    assert output.mail_from_result is SpfStatus.NONE
    assert "Received-SPF" not in message


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mail_from=st.text(max_size=60), client=st.text(max_size=20), ehlo=st.text(max_size=60))
async def test_no_envelope_raises_or_adds_another_field(
    resolver: Resolver, mail_from: str, client: str, ehlo: str
) -> None:
    for address in ("192.0.2.1", client):
        _, message = await check(resolver, mail_from, address, ehlo)
        assert set(message.keys()) <= {"Received-SPF", "From", "Subject"}


def test_a_check_streams_while_the_client_still_sends() -> None:
    options = SpfCheck(filter="spf_check").model_dump()
    assert not make_chain([options], RecordingSink()).waits_for_body
