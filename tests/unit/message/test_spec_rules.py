"""What is refused when a builder spec arrives, and that the specs of existing clients are not."""

from typing import Any

import pytest

from koukan.errors import InvalidDocument, InvalidMessage
from koukan.message.spec_rules import check_spec

FROM = ["from", [{"address": "ann@example.com"}]]
TEXT = {"content_type": "text/plain", "content": {"inline": "Hello"}}
FILE = {"content_type": "application/pdf", "filename": "r.pdf", "content": {"create_id": "report"}}
GOOD: dict[str, Any] = {"headers": [FROM], "text_body": [TEXT]}


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        {"headers": [["From", "Ann <ann@example.com>"]], "text_body": [{**TEXT, "content": {"inline": ""}}]},
        {"headers": [FROM], "file_attachments": [FILE]},
        {"headers": [FROM], "text_body": [], "related_attachments": [], "file_attachments": [FILE]},
        # a second recipient: what was uploaded for the first is named beside the id that it had
        GOOD | {"file_attachments": [{**FILE, "content": {"create_id": "r", "reuse_uri": "/transactions/T/blob/r"}}]},
        GOOD | {"headers": [FROM, ["x-campaign", "spring"], ["cc", []], ["date", {"unix_secs": 1700000000}]]},
        GOOD
        | {"related_attachments": [{"content_type": "image/png", "content_id": "<a@b>", "content": {"inline": ""}}]},
    ],
)
def test_specs_that_are_meant_so(spec: dict[str, Any]) -> None:
    assert b"rom:" in check_spec(spec)


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({}, "", "no content"),
        ({"headers": [FROM]}, "", "no content"),
        ({"headers": [FROM], "text_body": []}, "text_body", "no content"),
        ({"headers": [FROM], "text_body": None}, "text_body", "must not be null"),
        ({"headers": None, "text_body": [TEXT]}, "headers", "must not be null"),
        (GOOD | {"text": "Hello"}, "text", "unknown, did you mean 'text_body'?"),
        (GOOD | {"header": []}, "header", "unknown, did you mean 'headers'?"),
        (GOOD | {"textBody": []}, "textBody", "unknown, did you mean 'text_body'?"),
        (GOOD | {"attachments": []}, "attachments", "unknown, did you mean 'file_attachments'?"),
        (GOOD | {"html": "<p>"}, "html", "unknown; allowed are headers, text_body"),
        (GOOD | {"subject": "Hello"}, "subject", 'goes into "headers"'),
        (GOOD | {"headers": {"from": "a@b"}}, "headers", "must be a list"),
        (GOOD | {"headers": [FROM, ["subject"]]}, "headers[1]", "must be [name, value]"),
        (GOOD | {"headers": []}, "headers", "needs a From"),
        (GOOD | {"headers": [["from", []]]}, "headers", "needs a From"),
        ({"text_body": [TEXT]}, "headers", "needs a From"),
        (GOOD | {"text_body": "Hello"}, "text_body", "must be a list"),
        (GOOD | {"text_body": ["Hello"]}, "text_body[0]", "must be a JSON object"),
        (GOOD | {"text_body": [{"content": {"inline": "x"}}]}, "text_body[0].content_type", "is required"),
        (GOOD | {"text_body": [{"content_type": "text/plain"}]}, "text_body[0].content", "is required"),
        (GOOD | {"text_body": [{**TEXT, "content": "Hello"}]}, "text_body[0].content", "must be a JSON object"),
        (GOOD | {"text_body": [{**TEXT, "content": {"inine": "x"}}]}, "text_body[0].content.inine", "mean 'inline'?"),
        (GOOD | {"text_body": [{**TEXT, "content": {}}]}, "text_body[0].content", "with one of"),
        (
            GOOD | {"text_body": [{**TEXT, "content": {"inline": "x", "create_id": "y"}}]},
            "text_body[0].content",
            "with one of",
        ),
        (GOOD | {"file_attachments": [{**FILE, "type": "x"}]}, "file_attachments[0].type", "mean 'content_type'?"),
        (GOOD | {"file_attachments": [{**FILE, "fileName": "x"}]}, "file_attachments[0].fileName", "mean 'filename'?"),
        (GOOD | {"file_attachments": [{**FILE, "filename": None}]}, "file_attachments[0].filename", "not be null"),
        (GOOD | {"file_attachments": [FILE, FILE]}, "file_attachments[1].content", "must be unique"),
        (GOOD | {"parts": {}}, "parts", "unknown"),
        (
            GOOD | {"headers": [["from", [{"name": "Ann", "address": "ann@a.example"}]]]},
            "headers[0][1][0].name",
            "mean 'display_name'?",
        ),
        (GOOD | {"headers": [["from", [{"adress": "ann@a.example"}]]]}, "headers[0][1][0].adress", "mean 'address'?"),
        (
            GOOD | {"headers": [FROM, ["to", [{"group": "x", "member": []}]]]},
            "headers[1][1][0].member",
            "mean 'members'?",
        ),
        (
            GOOD | {"headers": [FROM, ["cc", [{"group": "x", "members": [{"adress": "b@a.example"}]}]]]},
            "headers[1][1][0].members[0].adress",
            "mean 'address'?",
        ),
        (GOOD | {"headers": [FROM, ["date", {"unix_secs": 5, "tz": 2}]]}, "headers[1][1].tz", "unknown"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        check_spec(spec)
    assert (caught.value.field, reason in caught.value.reason) == (field, True), caught.value


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (GOOD | {"headers": [["from", "nobody"]]}, r"headers\[0\]: header from"),
        (GOOD | {"headers": [FROM, FROM]}, r"headers\[1\]: a second from"),
        (GOOD | {"headers": [FROM, ["subject", 7]]}, r"headers\[1\]: the value of subject must be a string"),
        (GOOD | {"headers": [FROM, ["subject", "a\r\nBcc: x@y.z"]]}, r"headers\[1\]: .*control character"),
        (GOOD | {"headers": [FROM, ["date", {"unix_secs": "now"}]]}, r"headers\[1\]: header date"),
        (GOOD | {"text_body": [{**TEXT, "content_type": "html"}]}, r"text_body\[0\].content_type: 'html' is no"),
        (GOOD | {"file_attachments": [{**FILE, "filename": 1}]}, r"file_attachments\[0\].filename: must be a string"),
        (GOOD | {"file_attachments": [{**FILE, "content_id": "a b"}]}, "no message id"),
    ],
)
def test_what_cannot_be_rendered_is_known_before_it_is(spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        check_spec(spec)
