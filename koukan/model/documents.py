"""The JSON documents of the REST API and their rules (rest-api.md §2): parsed once at the edge, written in one place.

A field that is not legal in its context, an unknown field, a null or an empty list makes the whole document invalid. Every
error names the field and the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koukan.errors import InvalidDocument
from koukan.model.envelope import HostPort, Mailbox, SmtpMeta
from koukan.model.response import Response
from koukan.model.values import (
    Json,
    allow_only,
    as_count,
    as_list,
    as_object,
    as_string,
    dump_response,
    legal_object,
    optional,
    parse_host_port,
    parse_mailbox,
    parse_response,
    parse_smtp_meta,
    required,
)

CREATE_FIELDS = frozenset(
    {"remote_host", "local_host", "mail_from", "rcpt_to", "body", "smtp_meta", "sender", "filter_output"}
)
UPDATE_FIELDS = frozenset({"mail_from", "rcpt_to", "rcpt_to_list_offset", "body", "filter_output"})
RESPONSE_FIELDS = frozenset(
    {
        "remote_host",
        "local_host",
        "mail_from",
        "mail_response",
        "rcpt_to",
        "rcpt_response",
        "data_response",
        "attempt_count",
        "body",
        "notification",
        "retry",
        "cancelled",
        "final_attempt_reason",
        "sender",
        "filter_output",
    }
)


# --- requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BuilderBody:
    """`body.message_builder`: render this spec (message-json.md §1)."""

    spec: Json


@dataclass(frozen=True, slots=True)
class InlineBody:
    """`body.inline`: a complete message as text, UTF-8 on the wire."""

    content: bytes


@dataclass(frozen=True, slots=True)
class ReuseBody:
    """`body.reuse_uri`: share the body of an earlier transaction."""

    uri: str


BodyForm = BuilderBody | InlineBody | ReuseBody


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """POST /senders/{sender}/transactions."""

    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    mail_from: Mailbox | None = None
    rcpt_to: tuple[Mailbox, ...] = ()
    body: BodyForm | None = None
    smtp_meta: SmtpMeta | None = None
    tag: str | None = None
    filter_output: Json | None = None


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """PATCH /transactions/{id}; an empty one is a heartbeat."""

    mail_from: Mailbox | None = None
    rcpt_to: tuple[Mailbox, ...] = ()
    rcpt_to_list_offset: int = 0
    body: BodyForm | None = None
    filter_output: Json | None = None


def parse_create(document: object) -> CreateRequest:
    """The create request of a JSON document. Raises InvalidDocument."""
    doc = legal_object(document, CREATE_FIELDS)
    return CreateRequest(
        remote_host=optional(doc, "remote_host", parse_host_port),
        local_host=optional(doc, "local_host", parse_host_port),
        mail_from=optional(doc, "mail_from", parse_mailbox),
        rcpt_to=optional(doc, "rcpt_to", _recipients) or (),
        body=optional(doc, "body", _body_form),
        smtp_meta=optional(doc, "smtp_meta", parse_smtp_meta),
        tag=optional(doc, "sender", _sender_tag),
        filter_output=optional(doc, "filter_output", as_object),
    )


def parse_update(document: object) -> UpdateRequest:
    """The update of a JSON document. Raises InvalidDocument."""
    doc = legal_object(document, UPDATE_FIELDS)
    return UpdateRequest(
        mail_from=optional(doc, "mail_from", parse_mailbox),
        rcpt_to=optional(doc, "rcpt_to", _recipients) or (),
        rcpt_to_list_offset=optional(doc, "rcpt_to_list_offset", as_count) or 0,
        body=optional(doc, "body", _body_form),
        filter_output=optional(doc, "filter_output", as_object),
    )


# --- responses ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobStatus:
    """Where one blob is uploaded and whether it is complete."""

    uri: str
    finalized: bool = False


@dataclass(frozen=True, slots=True)
class BodyStatus:
    """The `body` of a response.

    `blobs` is None for a plain body; for a builder body it maps blob ids. `builder_uri` is where a receiver takes the spec.
    """

    body: BlobStatus | None = None
    builder_uri: str | None = None
    blobs: Mapping[str, BlobStatus] | None = None

    @property
    def complete(self) -> bool:
        """All that belongs to it has been uploaded."""
        parts = [*([] if self.body is None else [self.body]), *(self.blobs or {}).values()]
        return bool(parts) and all(part.finalized for part in parts)


@dataclass(frozen=True, slots=True)
class TransactionDocument:
    """A transaction as GET, POST and PATCH answer it (rest-api.md §2.1, column R)."""

    mail_response: Response | None = None
    rcpt_count: int = 0
    rcpt_response: tuple[Response, ...] = ()
    data_response: Response | None = None
    attempt_count: int | None = None
    body: BodyStatus | None = None
    final_attempt_reason: str | None = None
    cancelled: bool = False
    #: the server tries again by itself, and tells the sender of a failure by itself
    retry: bool = False
    notification: bool = False


def parse_transaction(document: object) -> TransactionDocument:
    """The response of a peer. Lenient with fields it does not know: they are the peer's business."""
    doc = as_object("", document)
    return TransactionDocument(
        mail_response=optional(doc, "mail_response", parse_response),
        rcpt_count=len(optional(doc, "rcpt_to", as_list) or ()),
        rcpt_response=optional(doc, "rcpt_response", _responses) or (),
        data_response=optional(doc, "data_response", parse_response),
        attempt_count=optional(doc, "attempt_count", as_count),
        body=optional(doc, "body", _body_status),
        final_attempt_reason=optional(doc, "final_attempt_reason", as_string),
        cancelled=doc.get("cancelled") is True,
        retry="retry" in doc,
        notification="notification" in doc,
    )


def _recipients(field: str, value: object) -> tuple[Mailbox, ...]:
    mailboxes = tuple(parse_mailbox(f"{field}[{i}]", m) for i, m in enumerate(as_list(field, value)))
    for i, mailbox in enumerate(mailboxes):
        if not mailbox.address:
            raise InvalidDocument(f"{field}[{i}].m", "a recipient needs an address")
    return mailboxes


def _responses(field: str, value: object) -> tuple[Response, ...]:
    return tuple(parse_response(f"{field}[{i}]", r) for i, r in enumerate(as_list(field, value)))


def _sender_tag(field: str, value: object) -> str | None:
    doc = as_object(field, value)
    allow_only(field, doc, ("name", "tag"))
    return optional(doc, "tag", as_string, field)


def _body_form(field: str, value: object) -> BodyForm | None:
    """The one form that is there; an empty document is no body: it is uploaded (rest-api.md §3.2)."""
    doc = as_object(field, value)
    allow_only(field, doc, ("message_builder", "inline", "reuse_uri"))
    if len(doc) > 1:
        raise InvalidDocument(field, f"the message is given more than once: {', '.join(doc)}; choose one")
    if "message_builder" in doc:
        return BuilderBody(as_object(f"{field}.message_builder", doc["message_builder"]))
    if "inline" in doc:
        return InlineBody(as_string(f"{field}.inline", doc["inline"]).encode("utf-8", "surrogatepass"))
    if "reuse_uri" in doc:
        return ReuseBody(as_string(f"{field}.reuse_uri", doc["reuse_uri"]))
    return None


def _blob_status(field: str, value: object) -> BlobStatus:
    doc = as_object(field, value)
    return BlobStatus(required(field, doc, "uri", as_string), doc.get("finalized") in (True, "true"))


def _body_status(field: str, value: object) -> BodyStatus:
    doc = as_object(field, value)
    builder = optional(doc, "message_builder", as_object, field)
    if builder is None:
        return BodyStatus(body=optional(doc, "blob_status", _blob_status, field))
    blobs = optional(builder, "blob_status", as_object, f"{field}.message_builder")
    return BodyStatus(
        body=optional(doc, "blob_status", _blob_status, field),
        builder_uri=optional(builder, "uri", as_string, f"{field}.message_builder"),
        blobs=None
        if blobs is None
        else {k: _blob_status(f"{field}.message_builder.blob_status.{k}", v) for k, v in blobs.items()},
    )


def dump_transaction(doc: TransactionDocument, **more: object) -> dict[str, object]:
    """The response document of a server. `more` adds what only a server knows: echoed hosts, retry, notification."""
    out: dict[str, object] = dict(more)
    if doc.mail_response is not None:
        out["mail_response"] = dump_response(doc.mail_response)
    if doc.rcpt_count:
        out["rcpt_to"] = [{}] * doc.rcpt_count
    if doc.rcpt_response:
        out["rcpt_response"] = [dump_response(r) for r in doc.rcpt_response]
    if doc.data_response is not None:
        out["data_response"] = dump_response(doc.data_response)
    if doc.attempt_count:
        out["attempt_count"] = doc.attempt_count
    if doc.body is not None:
        out["body"] = _dump_body_status(doc.body)
    if doc.retry:
        out["retry"] = {}
    if doc.notification:
        out["notification"] = {}
    if doc.cancelled:
        out["cancelled"] = True
    if doc.final_attempt_reason is not None:
        out["final_attempt_reason"] = doc.final_attempt_reason
    return out


def _dump_body_status(status: BodyStatus) -> Json:
    out: dict[str, object] = {}
    if status.body is not None:
        out["blob_status"] = _dump_blob_status(status.body)
    if status.builder_uri is not None or status.blobs is not None:
        builder: dict[str, object] = {}
        if status.builder_uri is not None:
            builder["uri"] = status.builder_uri
        if status.blobs is not None:
            builder["blob_status"] = {name: _dump_blob_status(blob) for name, blob in status.blobs.items()}
        out["message_builder"] = builder
    return out


def _dump_blob_status(status: BlobStatus) -> Json:
    return {"uri": status.uri, "finalized": True} if status.finalized else {"uri": status.uri}
