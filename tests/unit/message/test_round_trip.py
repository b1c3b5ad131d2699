"""What the builder makes, the parser, Python's email package and our own validation understand."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody
from koukan.message.builder import parse_spec
from koukan.message.composition import ComposedBody, compose
from koukan.message.dsn import FailedRecipient, make_bounce
from koukan.message.parser import MessageParser
from koukan.message.validation import Level, validate
from koukan.model import EsmtpParam, Mailbox, Response

ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=80)
# The parser makes LF of every line end.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=200)
ADDRESS = st.sampled_from(["ann@example.com", "bob@example.net", '"a b"@c.d', "jörg@bücher.example"])
ADDRESSES = st.lists(st.fixed_dictionaries({"display_name": ONE_LINE, "address": ADDRESS}), min_size=1, max_size=4)
NAMES = st.text(st.characters(min_codepoint=0x21, exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), max_size=40)
FILES = st.lists(st.tuples(st.sampled_from(["a/b", "image/png"]), NAMES, st.binary(max_size=300)), max_size=3)


@st.composite
def specs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A spec of everything that a message can have, and its blobs."""
    blobs: dict[str, bytes] = {}

    def upload(content: bytes) -> dict[str, str]:
        blobs[f"b{len(blobs)}"] = content
        return {"create_id": f"b{len(blobs) - 1}"}

    headers = [
        ["From", draw(ADDRESSES)],
        ["To", draw(ADDRESSES)],
        ["Subject", draw(ONE_LINE)],
        [
            "Date",
            {"unix_secs": draw(st.integers(0, 4_000_000_000)), "tz_offset": draw(st.sampled_from([0, 3600, -16200]))},
        ],
        ["Message-ID", ["q1@example.com"]],
    ]
    plain = {"content_type": "text/plain", "content": {"inline": draw(TEXT)}}
    html = {"content_type": "text/html", "content": {"inline": draw(TEXT)}}
    related = [
        {"content_type": kind, "content_id": f"<{i}@x>", "content": upload(content)}
        for i, (kind, _, content) in enumerate(draw(FILES))
    ]
    files = [{"content_type": kind, "filename": name, "content": upload(c)} for kind, name, c in draw(FILES)]
    spec = {
        "headers": headers,
        "text_body": [plain, html],
        "related_attachments": related,
        "file_attachments": files,
    }
    return spec, blobs


def build(spec: dict[str, Any], blobs: dict[str, bytes]) -> ComposedBody:
    parsed = parse_spec(spec)
    inline = {name: source.inline for name, source in parsed.sources.items() if source.inline is not None}
    return compose(parsed.document, {name: BytesBody(content) for name, content in {**inline, **blobs}.items()})


def same_name(text: str) -> list[str]:
    """Runs of white space in names and subjects carry no meaning."""
    return text.split()


@given(specs())
async def test_the_parser_gives_back_what_the_builder_was_given(case: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    spec, blobs = case
    parser = MessageParser(max_inline=100_000)
    message = await build(spec, blobs).read()
    parser.feed(message)
    parsed = parser.result(BytesBody(message))
    try:
        document = parsed.document
        texts = [{"content_type": t["content_type"], "content": t["content"]} for t in document["text_body"]]
        assert texts == spec["text_body"]
        for name in ("related_attachments", "file_attachments"):
            found = document.get(name, [])
            assert len(found) == len(spec[name])
            for ours, given_part in zip(found, spec[name], strict=True):
                assert ours["content_type"] == given_part["content_type"]
                assert ours.get("content_id") == given_part.get("content_id")
                assert ours.get("filename") == given_part.get("filename")
                content = await parsed.blobs[ours["content"]["create_id"]].read()
                assert content == blobs[given_part["content"]["create_id"]]
        _same_headers(dict(document["parts"]["headers"]), {name.lower(): value for name, value in spec["headers"]})
    finally:
        parsed.close()


def _same_headers(found: dict[str, Any], given_ones: dict[str, Any]) -> None:
    for name in ("from", "to"):
        assert [box["address"] for box in found[name]] == [box["address"] for box in given_ones[name]]
        names = [same_name(box["display_name"]) for box in found[name]]
        assert names == [same_name(box["display_name"]) for box in given_ones[name]]
    assert same_name(found["subject"]) == same_name(given_ones["subject"])
    assert found["date"] == given_ones["date"]
    assert [found["message-id"]] == given_ones["message-id"]


@given(specs())
async def test_what_is_built_is_valid(case: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    body = build(*case)
    verdict = await validate(body, smtputf8=True)
    assert (verdict.level, verdict.reason) == (Level.HIGH, None)
    message = message_from_bytes(await body.read(), policy=policy.SMTP)
    for part in message.walk():
        if not part.is_multipart():
            part.get_payload(decode=True)
        assert part.defects == []


@given(st.text(max_size=100), st.lists(ADDRESS, min_size=1, max_size=3), st.binary(max_size=100), st.booleans())
async def test_bounces_are_valid(reply: str, recipients: list[str], original: bytes, smtputf8: bool) -> None:
    data = await make_bounce(
        sender=Mailbox("ann@example.com", (EsmtpParam("SMTPUTF8"),) if smtputf8 else ()),
        failed=[FailedRecipient(Mailbox(address), Response(550, reply)) for address in recipients],
        original=BytesBody("Subject: grüße\r\n".encode() + original),
        mailer_daemon="mailer-daemon@example.org",
        arrived=datetime.now(UTC),
        now=datetime.now(UTC),
    )
    verdict = await validate(BytesBody(data))
    assert (verdict.level, verdict.reason) == (Level.HIGH, None)
    parser = MessageParser()
    parser.feed(data)
    parsed = parser.result(BytesBody(data))
    parsed.close()
    assert [part["content_type"] for part in parsed.document["parts"]["parts"]][:2] == [
        "text/plain",
        "message/delivery-status",
    ]
    assert len(parsed.document["parts"]["parts"][1]["parts"]) == 1 + len(recipients)
