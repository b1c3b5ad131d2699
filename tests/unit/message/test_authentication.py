from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message.authentication import MethodResult, render, without_forged
from tests.support.cost import at_most

SPF = MethodResult("spf", "pass", [("smtp.mailfrom", "example.com")])


def test_nothing_checked() -> None:
    assert render("mx.example.org", [], smtputf8=False) == b"Authentication-Results: mx.example.org; none\r\n"


def test_results() -> None:
    results = [SPF, MethodResult("dkim", "fail", [("header.d", "a.example"), ("header.s", "s1")], 'no "key"')]
    assert render("mx.example.org", results, smtputf8=False) == (
        b"Authentication-Results: mx.example.org;\r\n"
        b"\tspf=pass smtp.mailfrom=example.com;\r\n"
        b'\tdkim=fail reason="no \\"key\\"" header.d=a.example header.s=s1\r\n'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("example.com", "example.com"),
        ("ann@example.com", "ann@example.com"),
        ("2001:db8::1", '"2001:db8::1"'),
        ("a; dkim=pass", '"a; dkim=pass"'),
        ('a" b', '"a\\" b"'),
        ("a\r\nX: y", '"a??X: y"'),
        ("", '""'),
        ("bücher", "xn--bcher-kva"),
        ("jörg@a.example", '"j?rg@a.example"'),
        ("x" * 1000, "x" * 256),
    ],
)
def test_values_cannot_end_themselves(value: str, written: str) -> None:
    rendered = render("mx", [MethodResult("spf", "pass", [("smtp.mailfrom", value)])], smtputf8=False)
    gap = "\r\n\t " if len(written) > 60 else " "
    assert rendered.decode() == f"Authentication-Results: mx;\r\n\tspf=pass{gap}smtp.mailfrom={written}\r\n"


def test_utf8_where_the_message_may_have_it() -> None:
    results = [MethodResult("spf", "pass", [("smtp.mailfrom", "bücher.example")])]
    assert "smtp.mailfrom=bücher.example" in render("mx.bücher.example", results, smtputf8=True).decode()
    assert b": mx.xn--bcher-kva.example;" in render("mx.bücher.example", results, smtputf8=False)


REST = b"From: a@b.example\r\n\r\n"
FORGED = [
    b"Authentication-Results: mx.example.org; spf=pass\r\n",
    b"AUTHENTICATION-RESULTS:mx.EXAMPLE.org;spf=pass\r\n",
    b"Authentication-Results:\r\n\tmx.example.org 1;\r\n\tspf=pass\r\n",
    b"Authentication-Results: (a (comment)) mx.example.org (x); none\r\n",
    b'Authentication-Results: "mx.example.org"; none\r\n',
    b'Authentication-Results: "mx.\\example.org"; none\r\n',
    b"Authentication-Results : mx.example.org; none\r\n",
    b"Authentication-Results: mx.example.org\r\n",
    b"Authentication-Results: mx.example.org; none\n",
    b"Authentication-Results: mx.example.org; none\r",
    # what cannot be read
    b"Authentication-Results: (mx.example.org; none\r\n",
    b'Authentication-Results: "mx.example.org; none\r\n',
    b"Authentication-Results:\r\n",
]


@pytest.mark.parametrize("forged", FORGED)
def test_forged_fields_go(forged: bytes) -> None:
    other = b"Authentication-Results: other.example; none\r\n"
    assert without_forged(forged + REST, "mx.example.org") == REST
    assert without_forged(other + forged + other + forged + REST, "mx.example.org") == other + other + REST
    # Some readers go on behind a line that is no header.
    assert without_forged(b"no header\r\n" + forged + REST, "mx.example.org") == b"no header\r\n" + REST


@pytest.mark.parametrize(
    "kept",
    [
        b"Authentication-Results: other.example; spf=pass smtp.mailfrom=mx.example.org\r\n",
        b"Authentication-Results: mx.example.org.other.example; none\r\n",
        b"Authentication-Results: (mx.example.org) other.example; none\r\n",
        b"X-Authentication-Results: mx.example.org; none\r\n",
        b"Subject: Authentication-Results: mx.example.org; none\r\n",
        b"Subject: folded\r\n Authentication-Results: mx.example.org; none\r\n",
    ],
)
def test_fields_of_others_stay(kept: bytes) -> None:
    assert without_forged(kept + REST, "mx.example.org") is None


@pytest.mark.parametrize("own", ["mx.bücher.example", "mx.xn--bcher-kva.example", "MX.BÜCHER.example"])
@pytest.mark.parametrize("claimed", ["mx.bücher.example", "MX.xn--bcher-kva.EXAMPLE", '"mx.BÜCHER.example"'])
def test_internationalized_names_are_recognised_in_either_form(own: str, claimed: str) -> None:
    forged = f"Authentication-Results: {claimed}; none\r\n".encode()
    assert without_forged(forged + REST, own) == REST


@given(st.binary(max_size=300))
def test_what_is_left_has_none_of_ours(data: bytes) -> None:
    block = b"Authentication-Results: " + data + b"\r\nAuthentication-Results: mx; x\r\n"
    cleaned = without_forged(block, "mx")
    assert cleaned is not None
    assert without_forged(cleaned, "mx") is None
    parsed = message_from_bytes(cleaned, policy=policy.compat32)
    claims = [str(value).strip().partition(";")[0] for value in parsed.get_all("authentication-results", [])]
    assert "mx" not in claims


@given(st.text(max_size=600), st.text(max_size=600), st.booleans())
def test_whatever_was_found_it_stays_one_field(value: str, reason: str, smtputf8: bool) -> None:
    results = [MethodResult("dkim", "fail", [("header.d", value)], reason)]
    rendered = render("mx", results, smtputf8=smtputf8)
    assert message_from_bytes(rendered + b"\r\n", policy=policy.SMTP).keys() == ["Authentication-Results"]
    assert smtputf8 or rendered.isascii()
    assert max(map(len, rendered.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "block",
    [
        b"Authentication-Results: mx;\r\n" * 40_000,
        b"Authentication-Results:" + b" (" * 500_000,
        b"Authentication-Results: x" + b"\r\n " * 350_000,
        b"authentication-results" * 50_000,
    ],
    ids=["fields", "comments", "folding", "names"],
)
def test_hostile_headers_cost_little(block: bytes) -> None:
    with at_most(1.0):
        without_forged(block, "mx")
