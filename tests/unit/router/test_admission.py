from typing import Any

import pytest

from koukan.errors import InvalidDocument, InvalidMessage
from koukan.message.builder import BlobSource, BuilderSpec
from koukan.model import EsmtpParam, Mailbox
from koukan.model.documents import parse_create
from koukan.rest.problems import TooLarge
from koukan.router.admission import admit, check_size

SMTPUTF8 = (EsmtpParam("SMTPUTF8"),)
SPEC = {
    "headers": [["from", "ann@example.com"]],
    "text_body": [{"content_type": "text/plain", "content": {"inline": ""}}],
}


def envelope(mail_from: str = "ann@example.com", rcpt_to: str = "bob@example.net", **more: Any) -> Any:
    return parse_create({"mail_from": {"m": mail_from}, "rcpt_to": [{"m": rcpt_to}], **more})


@pytest.mark.parametrize(
    ("mail_from", "rcpt_to"),
    [
        ("", "bob@example.net"),
        ("Postmaster", "postmaster"),
        ("a..b@docomo.example", "a.@ezweb.example"),
        ("ann@under_score.example", "bob@[192.0.2.1]"),
        ("!#$%&@example.com", '"bob b" @example.net'.replace(" @", "@")),
        ("ann@localhost", "bob@xn--bcher-kva.example"),
    ],
)
async def test_odd_addresses_are_taken_as_they_are(mail_from: str, rcpt_to: str) -> None:
    admitted = await admit(envelope(mail_from, rcpt_to))
    assert (admitted.mail_from, admitted.rcpt_to) == (Mailbox(mail_from), (Mailbox(rcpt_to),))


@pytest.mark.parametrize(
    "address",
    ["ann", "ann@", "@example.com", "ann@example.com,eve@example.com", "ann@a;b", "ann@[192.0.2.1", "a@\u3002"],
)
async def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        await admit(envelope(mail_from=address))
    assert caught.value.field == "mail_from.m"
    with pytest.raises(InvalidDocument) as caught:
        await admit(envelope(rcpt_to=address))
    assert caught.value.field == "rcpt_to[0].m"


async def test_what_came_by_smtp_is_judged_by_smtp() -> None:
    request = envelope("root", "a@b,c@d", smtp_meta={"ehlo_host": "client.example"})
    assert await admit(request) == request


@pytest.mark.parametrize(
    ("mail_from", "rcpt_to", "expected"),
    [
        (
            "ann@bücher.example",
            "bob@例子.example",
            (Mailbox("ann@xn--bcher-kva.example"), Mailbox("bob@xn--fsqu00a.example")),
        ),
        ("ann@BÜCHER.example", "bob@b", (Mailbox("ann@xn--bcher-kva.example"), Mailbox("bob@b"))),
        ("ann@a.b", "grüße@bücher.example", (Mailbox("ann@a.b", SMTPUTF8), Mailbox("grüße@bücher.example"))),
        ("grüße@a.b", "bob@bücher.example", (Mailbox("grüße@a.b", SMTPUTF8), Mailbox("bob@xn--bcher-kva.example"))),
    ],
)
async def test_domains_go_as_a_labels(mail_from: str, rcpt_to: str, expected: tuple[Mailbox, Mailbox]) -> None:
    admitted = await admit(envelope(mail_from, rcpt_to))
    assert (admitted.mail_from, *admitted.rcpt_to) == expected


async def test_headers_beyond_ascii_need_smtputf8() -> None:
    spec = SPEC | {"headers": [["from", [{"address": "grüße@bücher.example"}]]]}
    assert (await admit(envelope(body={"message_builder": spec}))).mail_from == Mailbox("ann@example.com", SMTPUTF8)
    spec = SPEC | {"headers": [["from", [{"display_name": "Grüße", "address": "ann@bücher.example"}]]]}
    assert (await admit(envelope(body={"message_builder": spec}))).mail_from == Mailbox("ann@example.com")


async def test_paths_lead_through_the_whole_document() -> None:
    with pytest.raises(InvalidDocument) as caught:
        await admit(envelope(body={"message_builder": {}}))
    assert caught.value.field == "body.message_builder"
    with pytest.raises(InvalidMessage, match=r"^body\.message_builder\.headers\[1\]: "):
        await admit(envelope(body={"message_builder": SPEC | {"headers": [["from", "a@b"], ["to", "nobody"]]}}))


def test_texts_that_are_more_than_a_message_may_be() -> None:
    spec = BuilderSpec({}, {"inline0": BlobSource(inline=bytes(60)), "x": BlobSource()})
    check_size(spec, 84)
    with pytest.raises(TooLarge):
        check_size(spec, 81)
