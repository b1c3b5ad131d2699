from email import message_from_bytes, policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from koukan.errors import InvalidMessage
from koukan.message.lexical import MAX_STRUCTURED, strip_comments
from koukan.message.parameters import parse_content_type, parse_disposition, render_parameters
from tests.support.cost import at_most


@pytest.mark.parametrize(
    ("text", "value", "params", "valid"),
    [
        # RFC 2045 §5.1
        ("text/plain; charset=us-ascii (Plain text)", "text/plain", {"charset": "us-ascii"}, True),
        ('text/plain; charset="us-ascii"', "text/plain", {"charset": "us-ascii"}, True),
        # RFC 2046 §5.1.1
        (
            'multipart/mixed; boundary="gc0pJq0M:08jU534c0p"',
            "multipart/mixed",
            {"boundary": "gc0pJq0M:08jU534c0p"},
            True,
        ),
        # RFC 2231 §3, §4, §4.1
        (
            'message/external-body; access-type=URL;\tURL*0="ftp://";\tURL*1="cs.utk.edu/pub/x.tar"',
            "message/external-body",
            {"access-type": "URL", "url": "ftp://cs.utk.edu/pub/x.tar"},
            True,
        ),
        (
            "application/x-stuff;\ttitle*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
            "application/x-stuff",
            {"title": "This is ***fun***"},
            True,
        ),
        (
            "application/x-stuff\t;title*0*=us-ascii'en'This%20is%20even%20more%20\t;title*1*=%2A%2A%2Afun%2A%2A%2A%20"
            '\t;title*2="isn\'t it!"',
            "application/x-stuff",
            {"title": "This is even more ***fun*** isn't it!"},
            True,
        ),
        # order does not matter, the first of two counts
        ("a/b; x*1=2; x*0=1", "a/b", {"x": "12"}, True),
        ("a/b; x=1; X=2", "a/b", {"x": "1"}, False),
        # what careless senders write
        ("TEXT/Plain;", "text/plain", {}, True),
        ("text", "text/plain", {}, False),
        ("", "text/plain", {}, False),
        ('a/b; name="=?utf-8?q?caf=C3=A9?="', "a/b", {"name": "café"}, False),
        ("a/b; name=foo bar.txt", "a/b", {"name": "foo bar.txt"}, False),
        ('a/b; x="unclosed; y=1', "a/b", {"x": "unclosed; y=1"}, False),
        ("a/b;;x=1", "a/b", {"x": "1"}, False),
        ("a/b; x", "a/b", {}, False),
        ("a/b; =1", "a/b", {}, False),
        ("a/b; x*=utf-8''%C3", "a/b", {"x": "\ufffd"}, False),
        ("a/b; x*=foo", "a/b", {"x": "foo"}, False),
        ("a/b; x*=nowhere''%C3%A9", "a/b", {"x": "é"}, False),
        ("a/b; x*=utf-8''a%0D%0Ab", "a/b", {"x": "a\ufffd\ufffdb"}, True),
        ("a/b (unclosed; x=1", "a/b", {}, False),
    ],
)
def test_content_types(text: str, value: str, params: dict[str, str], valid: bool) -> None:
    parsed = parse_content_type(text)
    assert (parsed.value, parsed.params, parsed.valid) == (value, params, valid)


@pytest.mark.parametrize(
    ("text", "value", "params", "valid"),
    [
        # RFC 2183 §3
        (
            'attachment; filename=genome.jpeg;\tmodification-date="Wed, 12 Feb 1997 16:29:51 -0500"',
            "attachment",
            {"filename": "genome.jpeg", "modification-date": "Wed, 12 Feb 1997 16:29:51 -0500"},
            True,
        ),
        ("INLINE", "inline", {}, True),
        ("", "", {}, False),
        ("attachment filename=x", "attachment filename=x", {}, False),
    ],
)
def test_dispositions(text: str, value: str, params: dict[str, str], valid: bool) -> None:
    parsed = parse_disposition(text)
    assert (parsed.value, parsed.params, parsed.valid) == (value, params, valid)


@pytest.mark.parametrize(
    ("text", "bare", "closed"),
    [
        ("a", "a", True),
        ("a (b (c) \\) d) e", "a   e", True),
        ('"(" (x)', '"("', True),
        ("a (b", "a", False),
        ("(a)(b)", "", True),
        ("a \\(b", "a \\", False),
    ],
)
def test_comments_are_left_out(text: str, bare: str, closed: bool) -> None:
    assert strip_comments(text) == (bare, closed)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300).map(
    lambda text: " ".join(text.split())
)


@given(TEXTS, TEXTS)
@example("=?utf-8?q?x?= is no encoded word.pdf", "x" * 5000)
@example("Rechnung – März.pdf", "a" * 64 + '\\"' * 40)
def test_what_is_rendered_is_read_back_by_us_and_by_python(first: str, second: str) -> None:
    rendered = render_parameters("attachment", {"filename": first, "x-other": second})
    ours = parse_disposition(rendered)
    assert ours.valid
    assert ours.params == {"filename": first, "x-other": second}
    theirs = message_from_bytes(b"Content-Disposition: " + rendered.encode() + b"\r\n\r\n", policy=policy.SMTP)
    assert theirs.get_filename() == (first or None) or theirs["content-disposition"].params["filename"] == first


@given(st.text(st.sampled_from("ab/;=\"\\ *'%1()\x00é?q"), max_size=60))
def test_any_text_is_taken_apart(text: str) -> None:
    assert parse_content_type(text).value.count("/") == 1
    parse_disposition(text)


@pytest.mark.parametrize("unit", [";", "a=b;", '"\\', "(", "'", "*", " ", "a*1=2;", "%"])
def test_hostile_text_takes_linear_time(unit: str) -> None:
    text = "a/b; x=" + unit * (MAX_STRUCTURED // len(unit) - 7)
    with at_most(2):
        parse_content_type(text)


def test_the_length_is_bounded() -> None:
    with pytest.raises(InvalidMessage, match="longer than 262144"):
        parse_content_type("a" * (MAX_STRUCTURED + 1))
