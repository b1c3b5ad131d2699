from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message.address import Address, find_fault, parse_address, read_address, read_recipient
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


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("try..this..0511@docomo.ne.jp", "try..this..0511", "docomo.ne.jp"),
        ("xxx.yyy.@docomo.ne.jp", "xxx.yyy.", "docomo.ne.jp"),
        (".bob@mail.ru", ".bob", "mail.ru"),
        ("..@c.d", "..", "c.d"),
        ("e.adjei@lloydsbg_workday.example.com", "e.adjei", "lloydsbg_workday.example.com"),
        ("a@_dmarc.b.c", "a", "_dmarc.b.c"),
        ("a@b_.c", "a", "b_.c"),
        ('"a b"@c_d.e', "a b", "c_d.e"),
        ("用户..@例え.テスト", "用户..", "例え.テスト"),
    ],
)
def test_what_others_issue_is_read_though_it_is_against_the_grammar(text: str, local: str, domain: str) -> None:
    assert parse_address(text) is None
    read = read_address(text)
    assert read == Address(local, domain)
    # Written with quotes it is the same mailbox by the book.
    assert read_address(str(read)) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@",
        "a@",
        "@b.c",
        "a b@c.d",
        "a@b@c.d",
        "a@b.c.",
        "a@.b",
        "a@b..c",
        "a@-b.c",
        "a@b/c",
        "a@b.c>",
        "a@[_]",
    ],
)
def test_what_nobody_issues_is_not_read(text: str) -> None:
    assert read_address(text) is None
    assert find_fault(text)


@given(st.text())
def test_whatever_is_parsed_is_read_and_has_no_fault(text: str) -> None:
    parsed = parse_address(text)
    assert parsed is None or read_address(text) == parsed
    fault = find_fault(text)
    assert (fault is None) is (read_recipient(text) is not None)
    assert fault is None or (fault.isascii() and fault.isprintable())


@pytest.mark.parametrize("text", ["postmaster", "Postmaster", "POSTMASTER"])
def test_the_postmaster_needs_no_domain_as_recipient(text: str) -> None:
    assert read_recipient(text) == Address("postmaster", "")
    assert read_address(text) is None
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
