import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.chain.outputs import HostStatus, RemoteHostOutput
from koukan.model import Response
from koukan.net.dns import Resolver
from tests.support.chains import RecordingSink, make_chain, make_context, make_transaction, send
from tests.support.nameserver import NameServer

ZONE = """
1.2.0.192.in-addr.arpa   PTR  MX.example.com.
mx.example.com           A    192.0.2.1
mx.example.com           AAAA !servfail
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR six.example.com.
six.example.com          AAAA 2001:db8::1
six.example.com          A    !servfail
2.2.0.192.in-addr.arpa   PTR  liar.example.com.
liar.example.com         A    192.0.2.99
3.2.0.192.in-addr.arpa   PTR  !servfail
4.2.0.192.in-addr.arpa   PTR  broken.example.com.
broken.example.com       A    !servfail
broken.example.com       AAAA !servfail
5.2.0.192.in-addr.arpa   PTR  liar.example.com.
5.2.0.192.in-addr.arpa   PTR  first.example.com.
5.2.0.192.in-addr.arpa   PTR  second.example.com.
first.example.com        A    192.0.2.5
second.example.com       A    192.0.2.5
6.2.0.192.in-addr.arpa   PTR  a\\010b\\032\\(c.example.com.
7.2.0.192.in-addr.arpa   PTR  nowhere.example.com.
8.2.0.192.in-addr.arpa   PTR  liar.example.com.
8.2.0.192.in-addr.arpa   PTR  broken.example.com.
"""
OK, TEMP, NOT_FOUND = HostStatus.OK, HostStatus.DNS_TEMP, HostStatus.NOT_FOUND


async def look_up(
    resolver: Resolver, client: str | None, ehlo: str | None = "client.example"
) -> tuple[RemoteHostOutput | None, Response | None]:
    tx = make_transaction(client, ehlo)
    result = await send(make_chain([{"filter": "remote_host"}], RecordingSink(), make_context(resolver)), tx)
    return tx.output(RemoteHostOutput), result.mail


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("192.0.2.1", "MX.example.com."),
        ("::ffff:192.0.2.1", "MX.example.com."),
        ("2001:db8::1", "six.example.com."),
        ("2001:db8::1%eth0", "six.example.com."),
    ],
)
async def test_a_confirmed_name(resolver: Resolver, client: str, name: str) -> None:
    output, mail = await look_up(resolver, client)
    assert output == RemoteHostOutput(OK, fcrdns=True, remote_hostname=name)
    assert mail == Response(250, "ok")


async def test_the_json_that_receivers_know(resolver: Resolver) -> None:
    output, _ = await look_up(resolver, "192.0.2.1")
    assert output is not None
    assert output.to_json() == {
        "status": 0,
        "fcrdns": True,
        "ehlo_alignment": False,
        "remote_hostname": "MX.example.com.",
    }


@pytest.mark.parametrize(
    ("ehlo", "aligned"),
    [
        ("mx.example.com", True),
        ("MX.EXAMPLE.COM.", True),
        ("example.com", False),
        ("", False),
        (None, False),
        ("☃.example.com", False),
        ("\udc80", False),
    ],
)
async def test_ehlo_alignment(resolver: Resolver, ehlo: str | None, aligned: bool) -> None:
    output, _ = await look_up(resolver, "192.0.2.1", ehlo)
    assert output is not None
    assert output.ehlo_alignment is aligned


async def test_of_several_confirmed_names_the_one_the_client_uses(resolver: Resolver) -> None:
    output, _ = await look_up(resolver, "192.0.2.5", "second.example.com")
    assert output == RemoteHostOutput(OK, True, True, "second.example.com.")
    output, _ = await look_up(resolver, "192.0.2.5", "other.example.com")
    assert output is not None
    assert (output.fcrdns, output.ehlo_alignment) == (True, False)
    assert output.remote_hostname in ("first.example.com.", "second.example.com.")


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.2", RemoteHostOutput(OK, remote_hostname="liar.example.com.")),
        ("192.0.2.7", RemoteHostOutput(OK, remote_hostname="nowhere.example.com.")),
        ("192.0.2.44", RemoteHostOutput(NOT_FOUND)),
        ("192.0.2.6", RemoteHostOutput(NOT_FOUND)),
        ("mail.example", RemoteHostOutput(NOT_FOUND)),
        ("192.0.2", RemoteHostOutput(NOT_FOUND)),
        ("", RemoteHostOutput(NOT_FOUND)),
    ],
)
async def test_unconfirmed_clients_are_for_policies_to_judge(
    resolver: Resolver, client: str, expected: RemoteHostOutput
) -> None:
    output, mail = await look_up(resolver, client, "liar.example.com")
    assert (output, mail) == (expected, Response(250, "ok"))


@pytest.mark.parametrize(
    ("client", "expected", "words"),
    [
        ("192.0.2.3", RemoteHostOutput(TEMP), "RemoteHostFilter ptr err"),
        ("192.0.2.4", RemoteHostOutput(TEMP, remote_hostname="broken.example.com."), "RemoteHostFilter fwd err"),
    ],
)
async def test_what_dns_cannot_tell_now_is_temporary(
    resolver: Resolver, client: str, expected: RemoteHostOutput, words: str
) -> None:
    output, mail = await look_up(resolver, client)
    assert output == expected
    assert mail is not None
    assert (mail.code, mail.enhanced_code) == (450, "4.4.3")
    assert words in mail.message


async def test_one_name_that_cannot_be_told_leaves_the_verdict_open(resolver: Resolver) -> None:
    output, mail = await look_up(resolver, "192.0.2.8")
    assert output is not None and mail is not None
    assert (output.status, mail.code) == (TEMP, 450)


async def test_rest_clients_without_an_address_pass(resolver: Resolver, server: NameServer) -> None:
    assert await look_up(resolver, None) == (None, Response(250, "ok"))
    assert not server.queries


async def test_names_are_bounded(resolver: Resolver, server: NameServer) -> None:
    server.load("\n".join(f"9.2.0.192.in-addr.arpa PTR n{i}.example.com." for i in range(100)))
    await look_up(resolver, "192.0.2.9")
    assert sum(server.queries.values()) <= 5


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(client=st.text(max_size=60), ehlo=st.text(max_size=60))
async def test_garbage_raises_nothing(resolver: Resolver, client: str, ehlo: str) -> None:
    output, mail = await look_up(resolver, client, ehlo)
    assert output is not None
    assert mail == Response(250, "ok")
