import re
from email import message_from_bytes, policy
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.auth.spf import Result, Verdict
from koukan.auth.spf.received import Checked, render_received_spf

CLIENT = ip_address("192.0.2.1")
ANY = st.text(st.one_of(st.characters(), st.sampled_from('\r\n\t ;=()\\"@.<>')), max_size=400)
#: the ABNF of RFC 7208 §9.1, unfolded
FIELD = re.compile(
    r"(pass|fail|softfail|neutral|none|temperror|permerror) \([ -'*-\[\]-~]*\)"
    r'( [a-z-]+=([^\s;"()\\]+|"([ !#-\[\]-~]|\\["\\])*");)* [a-z-]+=([^\s;"()\\]+|"([ !#-\[\]-~]|\\["\\])*")'
)


def unfold(field: bytes) -> str:
    assert field.endswith(b"\r\n")
    return re.sub(r"\r\n(?=[ \t])", "", field.decode("ascii")[:-2])


def test_pass() -> None:
    checked = Checked(CLIENT, "mailfrom", "example.com", "my name@example.com", "foo.example.com", "mx.example.org")
    field = render_received_spf(Verdict(Result.PASS, "ip4:192.0.2.0/24"), checked)
    assert unfold(field) == (
        "Received-SPF: pass (mx.example.org: domain of example.com designates 192.0.2.1 as permitted sender)"
        ' receiver=mx.example.org; client-ip=192.0.2.1; envelope-from="my name@example.com"; helo=foo.example.com;'
        ' identity=mailfrom; mechanism="ip4:192.0.2.0/24"'
    )
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_an_error_says_what_is_wrong() -> None:
    checked = Checked(ip_address("2001:db8::1"), "helo", "client.example", "", "client.example")
    field = render_received_spf(Verdict(Result.PERMERROR, problem="unknown mechanism 'moo'"), checked)
    assert unfold(field) == (
        "Received-SPF: permerror (error in the SPF record of client.example)"
        ' client-ip="2001:db8::1"; envelope-from=""; helo=client.example; identity=helo;'
        " problem=\"unknown mechanism 'moo'\""
    )


@pytest.mark.parametrize("result", list(Result))
def test_every_result_has_its_words(result: Result) -> None:
    text = unfold(render_received_spf(Verdict(result), Checked(CLIENT, "mailfrom", "d.example", "a@d.example")))
    assert text.startswith(f"Received-SPF: {result.value} (")
    assert "d.example" in text


@given(domain=ANY, mail_from=ANY, helo=ANY, receiver=ANY, mechanism=ANY, problem=ANY, result=st.sampled_from(Result))
def test_nothing_can_begin_another_field(
    domain: str, mail_from: str, helo: str, receiver: str, mechanism: str, problem: str, result: Result
) -> None:
    checked = Checked(CLIENT, "mailfrom", domain, mail_from, helo, receiver)
    field = render_received_spf(Verdict(result, mechanism, None, problem), checked)
    message = message_from_bytes(field + b"Subject: x\r\n\r\nbody", policy=policy.SMTP)
    assert message.keys() == ["Received-SPF", "Subject"]
    assert max(map(len, field.split(b"\r\n"))) <= 998
    assert FIELD.fullmatch(unfold(field).removeprefix("Received-SPF: "))
