from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message.address import Address, parse_address
from tests.support.cost import at_most


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("user@example.com", "user", "example.com"),
        ("User.Name+tag@EXAMPLE.com", "User.Name+tag", "example.com"),
        ("!#$%&'*+-/=?^_`{|}~@a.b", "!#$%&'*+-/=?^_`{|}~", "a.b"),
        ("postmaster@localhost", "postmaster", "localhost"),
        ('"a b"@c.d', "a b", "c.d"),
        (r'"a\"b\\c"@c.d', r'a"b\c', "c.d"),
        ('""@c.d', "", "c.d"),
        ('"a@b"@c.d', "a@b", "c.d"),
        ("a@1-2.3", "a", "1-2.3"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::1]", "a", "[ipv6:2001:db8::1]"),
        ("用户@例え.テスト", "用户", "例え.テスト"),
        ("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή", "παράδειγμα.δοκιμή"),
        ("संपर्क@डाटामेल.भारत", "संपर्क", "डाटामेल.भारत"),
        ("a@xn--mnchen-3ya.example", "a", "xn--mnchen-3ya.example"),
        ("a" * 80 + "@b.c", "a" * 80, "b.c"),
    ],
)
def test_mailboxes_are_taken_apart(text: str, local: str, domain: str) -> None:
    assert parse_address(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@",
        "a@",
        "@b.c",
        "a@b.c>",
        "<a@b.c>",
        "<a@b.c",
        "a..b@c.d",
        ".a@c.d",
        "a.@c.d",
        "a b@c.d",
        "a@b.c,d@e.f",
        "a@b@c.d",
        "a@b.c.",
        "a@.b",
        "a@b..c",
        "a@-b.c",
        "a@b-.c",
        "a@b_c.d",
        "a@b c",
        "a@b.c ",
        " a@b.c",
        "a@b.c\n",
        "a@b.c\r\nBcc: d@e.f",
        "a\x00@b.c",
        "a\x80@b.c",
        "a\udc80@b.c",
        "a@b\u3002c",
        "a@b\u00a0c",
        "a@b\u3000c",
        '"a@b.c',
        '"a"b"@c.d',
        '"a\r\nb"@c.d',
        '"a\\"@c.d',
        "@x:a@b.c",
        "a(comment)@b.c",
        "a@[192.0.2.256]",
        "a@[2001:db8::1]",
        "a@[IPv6:zz]",
        "a@[]",
        "a@" + "b" * 64 + ".c",
        "a@" + "b." * 127 + "toolong",
        "a" * 2000 + "@b.c",
    ],
)
def test_what_is_no_mailbox_is_refused(text: str) -> None:
    assert parse_address(text) is None


def test_address_literals_give_their_address() -> None:
    for text, address in (("a@[192.0.2.1]", "192.0.2.1"), ("a@[ipv6:2001:db8::1]", "2001:db8::1")):
        parsed = parse_address(text)
        assert parsed is not None
        assert parsed.literal == ip_address(address)
    name = parse_address("a@b.c")
    assert name is not None
    assert name.literal is None


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=0, max_size=30),
    st.sampled_from(["c.d", "é.d"]),
)
def test_quoting_brings_every_local_part_back(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert parse_address(str(address)) == address


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    parsed = parse_address(text)
    assert parsed is None or parse_address(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["a." * 500, '"' + "\\ " * 500, "a@" + "b-" * 500, "a@" + "b" * 1000 + "_"])
def test_hostile_text_is_judged_in_linear_time(text: str) -> None:
    with at_most(0.05):
        assert parse_address(text) is None
