from typing import Any

import pytest

from koukan.errors import InvalidDocument
from koukan.message.builder import MAX_INLINE, MAX_PARTS, BlobSource, parse_spec


def text(**content: Any) -> dict[str, Any]:
    return {"content_type": "text/plain", "content": content}


def test_ids_count_over_all_parts() -> None:
    spec = {
        "text_body": [text(create_id="plain"), text(inline="<p>é</p>")],
        "related_attachments": [text(reuse_uri="http://r/transactions/T/blob/logo")],
        "file_attachments": [text(inline=""), text(reuse_uri="/transactions/U/blob/a.pdf?x#y", create_id="ignored")],
    }
    parsed = parse_spec(spec)
    assert parsed.sources == {
        "plain": BlobSource(),
        "inline1": BlobSource(inline="<p>é</p>".encode()),
        "logo": BlobSource(reuse_uri="http://r/transactions/T/blob/logo"),
        "inline3": BlobSource(inline=b""),
        "a.pdf": BlobSource(reuse_uri="/transactions/U/blob/a.pdf?x#y"),
    }
    document: Any = parsed.document
    assert {name: [part["content"] for part in document[name]] for name in spec} == {
        "text_body": [{"create_id": "plain"}, {"create_id": "inline1"}],
        "related_attachments": [{"create_id": "logo"}],
        "file_attachments": [{"create_id": "inline3"}, {"create_id": "a.pdf"}],
    }


def test_the_document_keeps_everything_else_and_the_spec_stays_as_it_was() -> None:
    spec = {"x-mine": 1, "headers": [["subject", "x"]], "text_body": [{**text(inline="a"), "filename": "f", "y": [2]}]}
    before = repr(spec)
    document = parse_spec(spec).document
    assert repr(spec) == before
    assert document["x-mine"] == 1
    assert document["text_body"] == [
        {"content_type": "text/plain", "filename": "f", "y": [2], "content": {"create_id": "inline0"}}
    ]


def test_date_and_message_id_are_fixed_when_the_spec_arrives() -> None:
    headers: Any = parse_spec({"headers": [["From", [{"address": "ann@example.com"}]]]}).document["headers"]
    assert headers[0] == ["From", [{"address": "ann@example.com"}]]
    assert [name for name, _ in headers] == ["From", "date", "message-id"]
    assert headers[2][1][0].endswith("@example.com")
    given = [["DATE", {"unix_secs": 1}], ["Message-Id", ["a@b"]]]
    assert parse_spec({"headers": given}).document["headers"] == given


@pytest.mark.parametrize("absent", [{}, {"text_body": None}, {"text_body": []}])
def test_every_member_is_optional(absent: dict[str, Any]) -> None:
    assert parse_spec(absent).sources == {}


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"text_body": {}}, "text_body", "must be a list of parts"),
        ({"text_body": ["x"]}, "text_body[0]", "must be a JSON object"),
        ({"text_body": [{"content_type": "text/plain"}]}, "text_body[0].content", "with one of"),
        ({"file_attachments": [text()]}, "file_attachments[0].content", "with one of reuse_uri, create_id, inline"),
        ({"text_body": [text(inline="", create_id="x")]}, "text_body[0].content", "with one of"),
        ({"text_body": [text(inline=1)]}, "text_body[0].content.inline", "must be a string"),
        ({"text_body": [text(create_id=None)]}, "text_body[0].content.create_id", "must be a string"),
        ({"text_body": [text(reuse_uri=["x"])]}, "text_body[0].content.reuse_uri", "must be a string"),
        ({"text_body": [text(reuse_uri="http://x/a/")]}, "text_body[0].content.reuse_uri", "no blob id"),
        ({"text_body": [text(reuse_uri="http://[x/a")]}, "text_body[0].content.reuse_uri", "is no URI"),
        ({"text_body": [text(inline="\ud800")]}, "text_body[0].content.inline", "surrogates"),
        (
            {"text_body": [text(inline="a")], "related_attachments": [text(reuse_uri="/transactions/T/blob/inline0")]},
            "related_attachments[0].content",
            "a second blob with id 'inline0'",
        ),
        ({"text_body": [text(create_id="a"), text(create_id="a")]}, "text_body[1].content", "must be unique"),
    ],
)
def test_errors_name_the_field(spec: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_spec(spec)
    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize("blob_id", ["", "a/b", "a b", "..", ".", "a?b", "a%20b", "é", "a\n", "x" * 201, "body"])
def test_ids_are_what_a_path_can_hold(blob_id: str) -> None:
    with pytest.raises(InvalidDocument, match="id"):
        parse_spec({"text_body": [text(create_id=blob_id)]})
    assert "a.b" in parse_spec({"text_body": [text(create_id="a.b")]}).sources


def test_bounds() -> None:
    with pytest.raises(InvalidDocument, match=f"more than {MAX_PARTS} parts"):
        parse_spec({"file_attachments": [text(inline="")] * (MAX_PARTS + 1)})
    assert len(parse_spec({"file_attachments": [text(inline="")] * MAX_PARTS}).sources) == MAX_PARTS
    with pytest.raises(InvalidDocument, match="use create_id and upload it"):
        parse_spec({"text_body": [text(inline="x" * (MAX_INLINE + 1))]})
