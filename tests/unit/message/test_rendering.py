from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.errors import InvalidMessage
from koukan.message.headers import parse_headers
from koukan.message.mailboxes import parse_mailboxes
from koukan.message.rendering import (
    Group,
    Named,
    format_date,
    make_date,
    render_ids,
    render_mailboxes,
    render_parameterized,
    render_text,
    sanitize,
)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("report", b"subject: report\r\n"),
        ("", b"subject:\r\n"),
        ("  spaces  kept  inside ", b"subject: spaces  kept  inside\r\n"),
        ("Re: Grüße", b"subject: Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"),
        ("日本", b"subject: =?utf-8?b?5pel5pys?=\r\n"),
        ("=?utf-8?q?caf=C3=A9?= open", b"subject: =?utf-8?q?caf=C3=A9?= open\r\n"),
        (
            "a subject that goes on and on until it no longer fits a line of seventy-eight",
            b"subject: a subject that goes on and on until it no longer fits a line of\r\n seventy-eight\r\n",
        ),
    ],
)
def test_text(text: str, rendered: bytes) -> None:
    assert render_text("subject", text) == rendered


@pytest.mark.parametrize(
    "text", ["report", "Re: Grüße", "a " * 100, "é" * 100, "x" * 200, "=?utf-8?q?caf=C3=A9?= open", "日本 and more"]
)
def test_text_means_what_pythons_email_package_makes_of_it(text: str) -> None:
    theirs = EmailMessage(policy.SMTP)
    theirs["subject"] = text
    ours = message_from_bytes(render_text("subject", text) + b"\r\n", policy=policy.SMTP)
    assert str(ours["subject"]) == str(theirs["subject"]).strip()


@pytest.mark.parametrize(
    ("boxes", "rendered"),
    [
        ([Named("Ann", "ann@example.com")], b"to: Ann <ann@example.com>\r\n"),
        ([Named("", "ann@Example.com")], b"to: ann@Example.com\r\n"),
        ([Named("Doe, John", "j@d.e")], b'to: "Doe, John" <j@d.e>\r\n'),
        ([Named('a "b" \\c', "j@d.e")], b'to: "a \\"b\\" \\\\c" <j@d.e>\r\n'),
        ([Named("Jörg", "j@d.e")], b"to: =?utf-8?q?J=C3=B6rg?= <j@d.e>\r\n"),
        ([Named("=?utf-8?q?x?=", "j@d.e")], b"to: =?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?= <j@d.e>\r\n"),
        ([Named("a", "a@b.c"), Named("", "d@e.f")], b"to: a <a@b.c>, d@e.f\r\n"),
        (
            [Group("Team", [Named("a", "a@b.c"), Named("", "d@e.f")]), Named("", "g@h.i")],
            b"to: Team: a <a@b.c>, d@e.f;, g@h.i\r\n",
        ),
        ([Group("undisclosed recipients", [])], b"to: undisclosed recipients:;\r\n"),
        ([Named("", "j@bücher.example")], b"to: j@xn--bcher-kva.example\r\n"),
        ([Named("", "jörg@bücher.example")], "to: jörg@bücher.example\r\n".encode()),
        ([Named("", '"a b"@c.d')], b'to: "a b"@c.d\r\n'),
    ],
)
def test_mailboxes(boxes: list[Named | Group], rendered: bytes) -> None:
    assert render_mailboxes("to", boxes) == rendered


@pytest.mark.parametrize(
    "spec", ["", "a", "a@", "a@b.c>", "a@b.c\r\nBcc: x@y.z", "a@b.c, d@e.f", "a b@c.d", "a@\u3002"]
)
def test_what_is_no_address_is_refused(spec: str) -> None:
    with pytest.raises(InvalidMessage, match=r"header to: .* is no "):
        render_mailboxes("to", [Named("", spec)])


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60),
            st.sampled_from(["a@b.c", '"x y"@d.e']),
        ),
        max_size=5,
    )
)
def test_display_names_come_back(boxes: list[tuple[str, str]]) -> None:
    rendered = render_mailboxes("to", [Named(name, spec) for name, spec in boxes])
    headers, end = parse_headers(rendered)
    assert end == len(rendered)
    assert len(headers.fields) == 1
    parsed = parse_mailboxes(headers.get("to") or "")
    assert parsed.valid
    assert [(box.display_name.split(), box.spec) for box in parsed.mailboxes] == [
        (name.split(), spec) for name, spec in boxes
    ]
    assert max(map(len, rendered.split(b"\r\n"))) <= 998


@given(st.text(), st.sampled_from(["Subject", "X-Anything"]))
def test_text_comes_back_or_is_refused_and_is_always_one_field(text: str, name: str) -> None:
    try:
        rendered = render_text(name, text)
    except InvalidMessage:
        return
    headers, end = parse_headers(rendered)
    assert end == len(rendered)
    assert [field.name for field in headers] == [name]
    assert rendered.isascii()
    assert all(len(line) <= 998 for line in rendered.split(b"\r\n"))
    parsed = message_from_bytes(rendered + b"\r\n", policy=policy.SMTP)
    assert len(parsed.keys()) == 1


@pytest.mark.parametrize(
    "control", ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_control_characters_are_refused_everywhere(control: str) -> None:
    evil = f"a{control}Bcc: victim@example.com"
    with pytest.raises(InvalidMessage):
        render_text("subject", evil)
    with pytest.raises(InvalidMessage):
        render_text(f"subject{control}bcc", "x")
    with pytest.raises(InvalidMessage):
        render_mailboxes("to", [Named(evil, "a@b.c")])
    with pytest.raises(InvalidMessage):
        render_mailboxes("to", [Group(evil, [])])
    with pytest.raises(InvalidMessage):
        render_ids("message-id", [evil])


def test_encoded_words_cannot_smuggle_line_ends() -> None:
    rendered = render_text("subject", "=?utf-8?q?a=0D=0ABcc:_victim@example.com?=")
    assert b"=0D" not in rendered
    assert (
        str(message_from_bytes(rendered + b"\r\n", policy=policy.SMTP)["subject"])
        == "a\ufffd\ufffdBcc: victim@example.com"
    )


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "x" * 201, "a\r\nb"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidMessage, match="a name is printable ASCII"):
        render_text(name, "x")


def test_ids_get_their_brackets() -> None:
    assert render_ids("references", ["a@b", "<c@d>"]) == b"references: <a@b> <c@d>\r\n"
    for bad in ("", "a b@c", "<a@b><c@d>", "é@b"):
        with pytest.raises(InvalidMessage, match="is no message id"):
            render_ids("references", [bad])


def test_a_line_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="too long for a line"):
        render_ids("message-id", ["x" * 1000 + "@y"])


def test_parameters_are_folded() -> None:
    rendered = render_parameterized("Content-Type", 'text/plain; charset="utf-8"; ' + f'name="{"x" * 40}"; y="a; b"')
    assert rendered == f'Content-Type: text/plain; charset="utf-8";\r\n name="{"x" * 40}"; y="a; b"\r\n'.encode()


@pytest.mark.parametrize(
    ("unix_secs", "tz_offset", "text"),
    [
        (1709750551, -28800, "Wed, 06 Mar 2024 10:42:31 -0800"),
        (1709750551, 0, "Wed, 06 Mar 2024 18:42:31 +0000"),
        (0, 0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        (0, 20700, "Thu, 01 Jan 1970 05:45:00 +0545"),
    ],
)
def test_dates(unix_secs: int, tz_offset: int, text: str) -> None:
    assert format_date(make_date(unix_secs, tz_offset)) == text


@pytest.mark.parametrize(
    ("unix_secs", "tz_offset"), [(10**12, 0), (10**30, 0), (-(10**11), 0), (-(10**10), 0), (0, 90000), (0, -90000)]
)
def test_impossible_dates_are_refused(unix_secs: int, tz_offset: int) -> None:
    with pytest.raises(InvalidMessage, match="header date"):
        make_date(unix_secs, tz_offset)


def test_sanitizing_leaves_printable_ascii() -> None:
    assert sanitize("a.b\r\n\x00 é~") == "a.b?????~"
