"""The JSON rules of rest-api.md §2: what is legal where, and errors that name the field."""

import pytest

from koukan.errors import InvalidDocument
from koukan.model import EsmtpParam, HostPort, Mailbox, Response
from koukan.model.documents import (
    BlobStatus,
    BodyStatus,
    BuilderBody,
    InlineBody,
    ReuseBody,
    TransactionDocument,
    dump_transaction,
    parse_create,
    parse_transaction,
    parse_update,
)
from koukan.model.values import dump_mailbox
from koukan.smtp.commands import MAIL_PARAMS, parse_path


def test_create_request_with_everything() -> None:
    request = parse_create(
        {
            "remote_host": ["203.0.113.9", 53006],
            "local_host": ["2001:db8::1", 25],
            "mail_from": {"m": "a@example.net", "e": [{"k": "SIZE", "p": "500"}, {"k": "SMTPUTF8"}]},
            "rcpt_to": [{"m": "b@example.org"}],
            "smtp_meta": {"ehlo_host": "client.example", "esmtp": True, "tls": False, "auth": None},
            "sender": {"name": "ignored", "tag": "smtp-msa"},
            "body": {"inline": "Subject: é\r\n\r\nhi\r\n"},
            "filter_output": {"x": {}},
        }
    )
    assert request.remote_host == HostPort("203.0.113.9", 53006)
    assert request.mail_from == Mailbox("a@example.net", (EsmtpParam("SIZE", "500"), EsmtpParam("SMTPUTF8")))
    assert request.tag == "smtp-msa"
    assert request.body == InlineBody("Subject: é\r\n\r\nhi\r\n".encode())
    assert request.smtp_meta is not None
    assert request.smtp_meta.auth is None


@pytest.mark.parametrize(
    ("document", "field", "reason"),
    [
        ([], "", "must be a JSON object"),
        ({"retry": {}}, "retry", "not a field of this request"),
        ({"mail_response": {"code": 250}}, "mail_response", "not a field"),
        ({"mail_from": None}, "mail_from", "must not be null"),
        ({"rcpt_to": []}, "rcpt_to", "must not be an empty list"),
        ({"rcpt_to": {"m": "a@b"}}, "rcpt_to", "must be a list"),
        ({"mail_from": {}}, "mail_from.m", "is required"),
        ({"mail_from": {"m": 1}}, "mail_from.m", "must be a string"),
        ({"mail_from": {"m": "a\r\nRCPT TO:<x>"}}, "mail_from.m", "control characters"),
        ({"mail_from": {"m": "a", "e": ["SIZE=1"]}}, "mail_from.e[0]", "must be a JSON object"),
        ({"mail_from": {"m": "a", "e": [{"p": "1"}]}}, "mail_from.e[0].k", "is required"),
        ({"mail_from": {"m": "a", "e": [{"k": "A B"}]}}, "mail_from.e[0]", "without spaces"),
        ({"rcpt_to": [{"m": "a"}, {"x": 1}]}, "rcpt_to[1].x", "unknown"),
        ({"remote_host": "192.0.2.1"}, "remote_host", "must be a list"),
        ({"remote_host": ["192.0.2.1"]}, "remote_host", '["host", port]'),
        ({"remote_host": ["192.0.2.1", 70000]}, "remote_host[1]", "no TCP port"),
        ({"sender": {"name": "x", "yaml": 1}}, "sender.yaml", "unknown"),
        ({"smtp_meta": {"ehlo_host": "x\nFrom: y"}}, "smtp_meta.ehlo_host", "control characters"),
        ({"smtp_meta": {"auth": "yes"}}, "smtp_meta.auth", "true, false or null"),
        ({"body": {"inline": 1}}, "body.inline", "must be a string"),
        ({"body": {"text": "Hello"}}, "body.text", "unknown; allowed are message_builder, inline, reuse_uri"),
        ({"body": {"messageBuilder": {}}}, "body.messageBuilder", "did you mean 'message_builder'?"),
        (
            {"body": {"message_builder": {"headers": []}, "inline": "x"}},
            "body",
            "more than once: message_builder, inline",
        ),
        ({"body": {"message_builder": None}}, "body.message_builder", "must be a JSON object"),
        ({"rcpt_to_list_offset": 1}, "rcpt_to_list_offset", "not a field"),
    ],
)
def test_create_request_errors_name_field_and_reason(document: object, field: str, reason: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_create(document)
    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"message_builder": {"headers": []}}, BuilderBody({"headers": []})),
        ({"message_builder": {}}, BuilderBody({})),
        ({"reuse_uri": "/transactions/T/body"}, ReuseBody("/transactions/T/body")),
        ({}, None),
    ],
)
def test_a_body_has_one_form(body: object, expected: object) -> None:
    assert parse_create({"body": body}).body == expected


@pytest.mark.parametrize(
    "address",
    [
        "Ann <ann@example.com>",
        "<ann@example.com>",
        "ann@example.com>",
        "ann@example.com> SIZE=1",
        "ann@example.com SIZE=1",
        " ann@example.com",
        "ann@example.com ",
        "ann@exam\u00a0ple.com",
        "ann@example.com\u2028",
        "ann@example.com\x85",
        "ann@example.com\x7f",
        'ann"@example.com',
        '"ann> x"y"@example.com',
        "x" * 513,
    ],
)
def test_an_address_cannot_change_the_command_that_it_stands_in(address: str) -> None:
    for document in ({"mail_from": {"m": address}}, {"rcpt_to": [{"m": address}]}):
        with pytest.raises(InvalidDocument) as caught:
            parse_create(document)
        assert caught.value.field in ("mail_from.m", "rcpt_to[0].m")
    command = parse_path(f"FROM:<{address}>", "FROM:", MAIL_PARAMS, esmtp=True)
    assert not isinstance(command, Mailbox) or command.address != address or not address.isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "Postmaster",
        "a..b@docomo.example",
        "a.@ezweb.example",
        "ann@under_score.example",
        '"Ann Smith <ann>"@example.com',
        "grüße@bücher.example",
        "用户@例子.example",
        "ann@[192.0.2.1]",
        "!#$%&'*+-/=?^_`{|}~@example.com",
    ],
)
def test_odd_addresses_that_others_issue_are_taken(address: str) -> None:
    assert parse_create({"mail_from": {"m": address}}).mail_from == Mailbox(address)
    assert parse_path(f"TO:<{address}>", "TO:", {}, esmtp=True) == Mailbox(address)


def test_update_takes_recipients_with_their_offset() -> None:
    request = parse_update({"rcpt_to_list_offset": 1, "rcpt_to": [{"m": "b@example.com"}]})
    assert request.rcpt_to == (Mailbox("b@example.com"),)
    assert request.rcpt_to_list_offset == 1
    with pytest.raises(InvalidDocument, match="smtp_meta"):
        parse_update({"smtp_meta": {}})


def test_mailbox_without_parameters_has_no_list_of_them() -> None:
    assert dump_mailbox(Mailbox("")) == {"m": ""}
    assert dump_mailbox(Mailbox("a", (EsmtpParam("BODY", "8BITMIME"),))) == {
        "m": "a",
        "e": [{"k": "BODY", "p": "8BITMIME"}],
    }


@pytest.mark.parametrize(
    "view",
    [
        TransactionDocument(),
        TransactionDocument(
            mail_response=Response(250, "ok"),
            rcpt_count=2,
            rcpt_response=(Response(250, "ok"), Response(450, "a\nb")),
            data_response=Response(250, "queued"),
            attempt_count=2,
            final_attempt_reason="upstream response success",
            cancelled=True,
            body=BodyStatus(body=BlobStatus("http://r/transactions/T/body", True)),
        ),
        TransactionDocument(body=BodyStatus(blobs={"pic": BlobStatus("http://r/transactions/T/blob/pic")})),
        TransactionDocument(body=BodyStatus(blobs={})),
        TransactionDocument(body=BodyStatus(builder_uri="http://r/mb", body=BlobStatus("http://r/b"))),
    ],
)
def test_what_a_server_writes_a_client_reads(view: TransactionDocument) -> None:
    assert parse_transaction(dump_transaction(view)) == view


def test_responses_have_no_nulls_and_no_empty_lists() -> None:
    document = dump_transaction(TransactionDocument(rcpt_count=1), mail_from={})
    assert document == {"mail_from": {}, "rcpt_to": [{}]}


@pytest.mark.parametrize(
    ("response", "enhanced"),
    [
        (Response(250, "2.1.5 ok"), "2.1.5"),
        (Response(450, "4.2.1 x\nmore"), "4.2.1"),
        (Response(550, "4.2.1 wrong class"), "5.0.0"),
        (Response(550, "no such user"), "5.0.0"),
        (Response(400, "2.0.0.1"), "4.0.0"),
    ],
)
def test_enhanced_code_agrees_with_the_class(response: Response, enhanced: str) -> None:
    assert response.enhanced_code == enhanced


def test_precondition_keeps_the_class() -> None:
    assert Response(450, "busy").precondition("MAIL") == Response(450, "4.5.1 failed precondition: MAIL")
    assert Response(550, "no").precondition("MAIL") == Response(550, "5.5.1 failed precondition: MAIL")
