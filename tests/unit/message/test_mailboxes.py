from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.errors import InvalidMessage
from koukan.message.address import Address
from koukan.message.lexical import MAX_STRUCTURED
from koukan.message.mailboxes import parse_mailboxes
from tests.support.cost import at_most


@pytest.mark.parametrize(
    ("text", "boxes", "valid"),
    [
        # RFC 5322 appendix A.1
        ("John Doe <jdoe@machine.example>", [("John Doe", "jdoe@machine.example")], True),
        (
            '"Joe Q. Public" <john.q.public@example.com>',
            [("Joe Q. Public", "john.q.public@example.com")],
            True,
        ),
        (
            "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
            [("Mary Smith", "mary@x.test"), ("", "jdoe@example.org"), ("Who?", "one@y.test")],
            True,
        ),
        (
            '<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>',
            [("", "boss@nil.test"), ('Giant; "Big" Box', "sysservices@example.net")],
            True,
        ),
        (
            "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
            [("Ed Jones", "c@a.test"), ("", "joe@where.test"), ("John", "jdoe@one.test")],
            True,
        ),
        ("Undisclosed recipients:;", [], True),
        # A.5: white space and comments
        (
            "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [("Pete", "pete@silly.test")],
            True,
        ),
        (
            "A Group(Some people):Chris Jones <c@(Chris's host.)public.example>,joe@example.org,"
            "John <jdoe@one.test> (my dear friend); (the end of the group)",
            [("Chris Jones", "c@public.example"), ("", "joe@example.org"), ("John", "jdoe@one.test")],
            True,
        ),
        ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", [], True),
        # A.6: obsolete syntax, understood but not valid
        ("Joe Q. Public <john.q.public@example.com>", [("Joe Q. Public", "john.q.public@example.com")], False),
        (
            "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
            [("Mary Smith", "mary@example.net"), ("", "jdoe@test.example")],
            False,
        ),
        # RFC 2047
        ("=?ISO-8859-1?Q?Andr=E9?= Pirard <PIRARD@vm1.ulg.ac.be>", [("André Pirard", "PIRARD@vm1.ulg.ac.be")], True),
        ("=?utf-8?q?Foo,_Inc.?= <a@b.c>", [("Foo, Inc.", "a@b.c")], True),
        ("=?utf-8?q?x?=<a@b.c>", [("x", "a@b.c")], False),
        ("=?nowhere?q?x?= <a@b.c>", [("x", "a@b.c")], False),
        ('"=?utf-8?q?x?=" <a@b.c>', [("x", "a@b.c")], False),
        ("=?utf-8?q?a=0D=0ABcc:_x@y?= <a@b.c>", [("a\ufffd\ufffdBcc: x@y", "a@b.c")], True),
        # what careless senders write
        ("", [], True),
        ("(only a comment)", [], False),
        ("<>", [("", "")], False),
        ("root", [("", "root")], False),
        ("John Smith", [("John Smith", "")], False),
        ("a@b.c>", [("a@b.c>", "")], False),
        ("<a@b.c", [("", "a@b.c")], False),
        ("<a@b.c, d@e.f", [("", "a@b.c"), ("", "d@e.f")], False),
        ("a@b.c;", [("", "a@b.c")], False),
        ("a@b.c d@e.f", [("a@b.c d@e.f", "")], False),
        ("a@b.c <d@e.f>", [("a@b.c", "d@e.f")], False),
        ("a@", [("a@", "")], False),
        ('"unclosed <a@b.c>', [("", "unclosed <a@b.c>")], False),
        ("(unclosed a@b.c", [], False),
        ("a\x00b@c.d", [("", "a\x00b@c.d")], False),
        ('"a b"@c.d', [("", '"a b"@c.d')], True),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")], True),
    ],
)
def test_lists_are_taken_apart(text: str, boxes: list[tuple[str, str]], valid: bool) -> None:
    parsed = parse_mailboxes(text)
    assert [tuple(box) for box in parsed.mailboxes] == boxes
    assert parsed.valid == valid


def test_a_mailbox_gives_its_address() -> None:
    (box,) = parse_mailboxes("Ann <ann@EXAMPLE.com>").mailboxes
    assert box.spec == "ann@EXAMPLE.com"
    assert box.address == Address("ann", "example.com")


WORDS = st.text("abcXYZ019-_", min_size=1, max_size=8)
NAMES = st.lists(WORDS, max_size=3).map(" ".join) | st.text('ab ,.@<\\"', min_size=1, max_size=8).map(
    lambda text: '"' + " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"') + '"'
)
SPECS = st.tuples(
    st.lists(WORDS, min_size=1, max_size=3).map(".".join), st.lists(WORDS, min_size=1, max_size=3).map(".".join)
)
BOXES = st.tuples(NAMES, SPECS).map(lambda box: f"{box[0]} <{'@'.join(box[1])}>") | SPECS.map("@".join)
GROUPS = st.tuples(WORDS, st.lists(BOXES, max_size=3)).map(lambda group: f"{group[0]}: {', '.join(group[1])};")


@given(st.lists(BOXES | GROUPS, min_size=1, max_size=4).map(", ".join))
def test_proper_lists_read_as_pythons_email_package_reads_them(text: str) -> None:
    theirs = message_from_bytes(b"To: " + text.encode() + b"\r\n\r\n", policy=policy.SMTP)["to"]
    ours = parse_mailboxes(text)
    assert [tuple(box) for box in ours.mailboxes] == [(a.display_name, a.addr_spec) for a in theirs.addresses]
    assert ours.valid == (not theirs.defects)


@given(st.text(st.sampled_from('ab@<>,:;()[]\\". \t=?q\x00é'), max_size=60))
def test_any_text_gives_a_list(text: str) -> None:
    for box in parse_mailboxes(text).mailboxes:
        assert "\r" not in box.display_name + box.spec


@pytest.mark.parametrize("unit", ["(", '"', '"\\', "a.", "<", "[", "(a)", "=?", "a@b,"])
def test_hostile_text_takes_linear_time(unit: str) -> None:
    text = unit * (MAX_STRUCTURED // len(unit))
    with at_most(3):
        parse_mailboxes(text)


def test_the_length_is_bounded() -> None:
    with pytest.raises(InvalidMessage, match="longer than 262144"):
        parse_mailboxes("a" * (MAX_STRUCTURED + 1))
