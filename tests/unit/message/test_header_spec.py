import logging
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.errors import InvalidMessage
from koukan.message.header_spec import add_missing, render_headers
from koukan.message.headers import MAX_FIELDS, parse_headers

NOW = datetime(2024, 3, 6, 18, 42, 31, tzinfo=UTC)
LONG_URL = "https://click.example.com/u/?qs==?" + "0123456789abcdef" * 57 + "?="
ANN = {"display_name": "Ann", "address": "ann@example.com"}


@pytest.mark.parametrize(
    ("header", "rendered"),
    [
        (["from", [ANN]], "from: Ann <ann@example.com>"),
        (["From", [ANN]], "From: Ann <ann@example.com>"),
        (["FROM", [{"address": "ann@example.com"}]], "FROM: ann@example.com"),
        (["to", [{"display_name": None, "address": "a@b.c"}, ANN]], "to: a@b.c, Ann <ann@example.com>"),
        (["to", []], ""),
        (["cc", [{"display_name": "Jörg", "address": "j@b.c"}]], "cc: =?utf-8?q?J=C3=B6rg?= <j@b.c>"),
        (["cc", [{"display_name": "Doe, J", "address": "j@b.c"}]], 'cc: "Doe, J" <j@b.c>'),
        (["to", [{"address": "jörg@bücher.example"}]], "to: jörg@bücher.example"),
        (["to", [{"group": "undisclosed-recipients"}]], "to: undisclosed-recipients:;"),
        (
            ["to", [{"group": "Team", "members": [ANN, {"address": "b@c.d"}]}]],
            "to: Team: Ann <ann@example.com>, b@c.d;",
        ),
        # as Gmail wants them of bulk senders (RFC 8058); URLs of mailing services are long, and hold anything
        (["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"], "List-Unsubscribe-Post: List-Unsubscribe=One-Click"),
        (["List-Unsubscribe", f"<{LONG_URL}>"], f"List-Unsubscribe: <{LONG_URL}>"),
        (
            ["List-Unsubscribe", f"<mailto:u@b.c?subject=x>,<{LONG_URL}>"],
            f"List-Unsubscribe: <mailto:u@b.c?subject=x>,\r\n <{LONG_URL}>",
        ),
        (
            ["List-Unsubscribe", "<https://bücher.example/abmelden?für=ann>"],
            "List-Unsubscribe: <https://xn--bcher-kva.example/abmelden?f%C3%BCr=ann>",
        ),
        (["List-Help", "<mailto:hilfe@b.c?subject=Grüße>"], "List-Help: <mailto:hilfe@b.c?subject=Gr%C3%BC%C3%9Fe>"),
        (["X-Original-Message-ID", f"<{'x' * 950}@b.c>"], f"X-Original-Message-ID: <{'x' * 950}@b.c>"),
        (["X-References", "<a=?utf-8?q?b?=@b.c> <c@b.c>"], "X-References: <a=?utf-8?q?b?=@b.c> <c@b.c>"),
        (["Feedback-ID", "campaign:ann:=?x?=:b"], "Feedback-ID: campaign:ann:=?x?=:b"),
        (["List-Id", "Grüße <news.b.c>"], "List-Id: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <news.b.c>"),
        (["List-ID", '"News, weekly" <news.b.c>'], 'List-ID: "News, weekly" <news.b.c>'),
        (["in-reply-to", ["x@bücher.example"]], "in-reply-to: <x@xn--bcher-kva.example>"),
        (["Reply-To", [ANN]], "Reply-To: Ann <ann@example.com>"),
        (["Reply-To", "Jörg <j@b.c>, ann@example.com"], "Reply-To: =?utf-8?q?J=C3=B6rg?= <j@b.c>, ann@example.com"),
        (["bcc", [ANN]], ""),
        (["BCC", "ann@example.com"], ""),
        (["date", {"unix_secs": 1709750551, "tz_offset": -28800}], "date: Wed, 06 Mar 2024 10:42:31 -0800"),
        (["Date", {"unix_secs": 1709750551}], "Date: Wed, 06 Mar 2024 18:42:31 +0000"),
        (["date", {"unix_secs": 1709750551.9, "tz_offset": None}], "date: Wed, 06 Mar 2024 18:42:31 +0000"),
        (["date", {"unix_secs": 0}], "date: Thu, 01 Jan 1970 00:00:00 +0000"),
        (["date", "6 Mar 2024 10:42:31 -0800"], "date: Wed, 06 Mar 2024 10:42:31 -0800"),
        (["date", "6 Mar 2024 10:42:31 -0000"], "date: Wed, 06 Mar 2024 10:42:31 +0000"),
        (["message-id", ["q1@example.com"]], "message-id: <q1@example.com>"),
        (["Message-ID", "<q1@example.com>"], "Message-ID: <q1@example.com>"),
        (["references", ["a@b", "<c@d>"]], "references: <a@b> <c@d>"),
        (["references", "<a@b>  c@d"], "references: <a@b> <c@d>"),
        (["in-reply-to", []], ""),
        (["subject", "réport"], "subject: =?utf-8?q?r=C3=A9port?="),
        (["X-Mine", "as it is"], "X-Mine: as it is"),
        (["MIME-Version", "2.0"], ""),
        (["Content-Type", "text/html"], ""),
        (["content-transfer-encoding", "base64"], ""),
    ],
)
def test_rendering(header: list[Any], rendered: str) -> None:
    assert render_headers([header]) == (rendered + "\r\n" if rendered else "").encode()


def test_order_is_kept() -> None:
    headers = [["subject", "x"], ["X-A", "1"], ["from", [ANN]], ["X-A", "2"]]
    assert render_headers(headers).decode().splitlines() == [
        "subject: x",
        "X-A: 1",
        "from: Ann <ann@example.com>",
        "X-A: 2",
    ]


def test_pairs_that_are_none_are_skipped_with_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert render_headers([["subject"], ["x", "y"], "z"]) == b"x: y\r\n"
    assert [record.getMessage() for record in caplog.records] == [
        "headers[0] is skipped: it is not [name, value]",
        "headers[2] is skipped: it is not [name, value]",
    ]


@pytest.mark.parametrize("nothing", [None, []])
def test_no_headers(nothing: object) -> None:
    assert render_headers(nothing) == b""


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"subject": "x"}, "headers: must be a list"),
        ([[1, "x"]], r"headers\[0\]\[0\]: must be a string"),
        ([["a b", "x"]], "a name is printable ASCII"),
        ([["subject\r\nbcc", "x"]], "a name is printable ASCII"),
        ([["subject", ["x"]]], "the value of subject must be a string"),
        ([["subject", "a\r\nbcc: x@y.z"]], r"headers\[0\]: header subject: control character"),
        ([["x", "ok"], ["from", [{"display_name": "Ann"}]]], r"headers\[1\]: header from: an address must be"),
        ([["from", [ANN | {"display_name": 3}]]], "display_name must be a string"),
        ([["from", [{"address": 3}]]], "address must be a string"),
        ([["from", [{"address": "ann"}]]], "'ann' is no mail address"),
        ([["from", [{"display_name": "A\r\nBcc: x@y.z", "address": "a@b.c"}]]], "control character"),
        ([["from", "ann"]], "is no list of addresses"),
        ([["to", "a@b.c\r\nbcc: x@y.z"]], "control character"),
        ([["to", {"address": "a@b.c"}]], "must be a list"),
        ([["to", ["a@b.c"]]], "an address must be"),
        ([["to", [{"group": "x", "members": [{"group": "y"}]}]]], "an address must be"),
        ([["to", [{"group": "", "members": []}]]], "a group needs a name"),
        ([["bcc", [{"address": "nonsense"}]]], "no mail address"),
        ([["date", {}]], "unix_secs must be a number"),
        ([["date", {"unix_secs": True}]], "unix_secs must be a number"),
        ([["date", {"unix_secs": float("nan")}]], "unix_secs must be a number"),
        ([["date", {"unix_secs": float("inf")}]], "out of range"),
        ([["date", {"unix_secs": 10**30}]], "header date"),
        ([["date", {"unix_secs": 1, "tz_offset": "x"}]], "tz_offset must be a number"),
        ([["date", 1]], "must be {"),
        ([["date", "tomorrow"]], "is no date"),
        ([["date", f"Mon, 01 Jan 2024 00:00:00 +{10**15}"]], "is no date"),
        ([["date", f"1 Jan {10**20} 00:00:00"]], "is no date"),
        ([["message-id", []]], "must be one id"),
        ([["message-id", ["a@b", "c@d"]]], "must be one id"),
        ([["references", [1]]], "id must be a string"),
        ([["references", ["a b"]]], "no message id"),
        ([["subject", "a"], ["Subject", "b"]], r"headers\[1\]: a second Subject header"),
        ([["From", [ANN]], ["from", [ANN]]], "a second from header"),
        ([["bcc", [ANN]], ["bcc", [ANN]]], "a second bcc header"),
        ([["x", "y"]] * (MAX_FIELDS + 1), "more than"),
    ],
)
def test_errors_say_where(headers: object, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        render_headers(headers)


@pytest.mark.parametrize(
    ("author", "domain"),
    [
        ([["from", [ANN]]], "example.com"),
        ([["From", "Ann <ann@Example.com>, b@c.d"]], "example.com"),
        ([["from", [{"address": "j@bücher.example"}]]], "xn--bcher-kva.example"),
        ([["from", [{"address": "j@[192.0.2.1]"}]]], "localhost"),
        ([["from", [{"address": "nonsense"}]]], "localhost"),
        ([["from", [{"group": "x"}]]], "localhost"),
        ([["from", 3]], "localhost"),
        ([], "localhost"),
    ],
)
def test_missing_date_and_message_id(author: list[object], domain: str) -> None:
    added: Any = add_missing(author, NOW)[len(author) :]
    assert added[0] == ["date", {"unix_secs": 1709750551, "tz_offset": 0}]
    assert added[1][0] == "message-id"
    local, _, found = added[1][1][0].partition("@")
    assert (len(local), found) == (32, domain)
    assert add_missing(author, NOW)[-1] != added[1], "each message has its own id"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(["From", "to", "bcc", "date", "message-id", "references", "subject", "X-Any", "a\r\nb"])
ADDRESS = st.fixed_dictionaries(
    {"address": st.text(max_size=20) | st.just("a@b.c")}, optional={"display_name": st.text()}
)


@given(st.lists(st.tuples(NAMES, JSON | st.lists(ADDRESS, max_size=3) | st.text()).map(list), max_size=5) | JSON)
def test_whatever_the_document_holds_no_header_is_injected(headers: Any) -> None:
    try:
        rendered = render_headers(headers)
    except InvalidMessage:
        return
    found, end = parse_headers(rendered)
    assert end == len(rendered)
    given_names = [pair[0] for pair in headers or [] if isinstance(pair, list) and len(pair) == 2]
    remaining = iter(given_names)
    assert all(field.name in remaining for field in found), "fields are those of the document, in their order"
    assert found.count("bcc") == 0
    parsed = message_from_bytes(rendered + b"\r\n", policy=policy.SMTP)
    assert len(parsed.keys()) == len(found.fields)
