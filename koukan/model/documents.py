"""The JSON documents of the REST API and their rules (rest-api.md §2): parsed once at the edge, written in one place.

A field that is not legal in its context, an unknown field, a null or an empty list makes the whole document invalid. Every
error names the field and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from koukan.errors import InvalidDocument
from koukan.model.envelope import EsmtpParam, HostPort, Mailbox, SmtpMeta
from koukan.model.response import Response

Json = Mapping[str, object]
T = TypeVar("T")

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
    doc = _document(document, CREATE_FIELDS)
    return CreateRequest(
        remote_host=_optional(doc, "remote_host", parse_host_port),
        local_host=_optional(doc, "local_host", parse_host_port),
        mail_from=_optional(doc, "mail_from", parse_mailbox),
        rcpt_to=_optional(doc, "rcpt_to", _mailboxes) or (),
        body=_optional(doc, "body", _body_form),
        smtp_meta=_optional(doc, "smtp_meta", parse_smtp_meta),
        tag=_optional(doc, "sender", _sender_tag),
        filter_output=_optional(doc, "filter_output", _object),
    )


def parse_update(document: object) -> UpdateRequest:
    """The update of a JSON document. Raises InvalidDocument."""
    doc = _document(document, UPDATE_FIELDS)
    return UpdateRequest(
        mail_from=_optional(doc, "mail_from", parse_mailbox),
        rcpt_to=_optional(doc, "rcpt_to", _mailboxes) or (),
        rcpt_to_list_offset=_optional(doc, "rcpt_to_list_offset", _count) or 0,
        body=_optional(doc, "body", _body_form),
        filter_output=_optional(doc, "filter_output", _object),
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


def parse_transaction(document: object) -> TransactionDocument:
    """The response of a peer. Lenient with fields it does not know: they are the peer's business."""
    doc = _object("", document)
    return TransactionDocument(
        mail_response=_optional(doc, "mail_response", parse_response),
        rcpt_count=len(_optional(doc, "rcpt_to", _list) or ()),
        rcpt_response=_optional(doc, "rcpt_response", _responses) or (),
        data_response=_optional(doc, "data_response", parse_response),
        attempt_count=_optional(doc, "attempt_count", _count),
        body=_optional(doc, "body", _body_status),
        final_attempt_reason=_optional(doc, "final_attempt_reason", _string),
        cancelled=doc.get("cancelled") is True,
    )


# --- values ---------------------------------------------------------------------------------------------------------------


def parse_mailbox(field: str, value: object) -> Mailbox:
    doc = _object(field, value)
    _only(field, doc, ("m", "e"))
    address = _required(field, doc, "m", _string)
    if not _one_line(address):
        raise InvalidDocument(f"{field}.m", "must not contain control characters")
    params = (
        tuple(_param(f"{field}.e[{i}]", p) for i, p in enumerate(_list(f"{field}.e", doc["e"]))) if "e" in doc else ()
    )
    return Mailbox(address, params)


def dump_mailbox(mailbox: Mailbox) -> Json:
    if not mailbox.params:
        return {"m": mailbox.address}
    return {
        "m": mailbox.address,
        "e": [{"k": p.keyword} if p.value is None else {"k": p.keyword, "p": p.value} for p in mailbox.params],
    }


def parse_response(field: str, value: object) -> Response:
    doc = _object(field, value)
    code = _required(field, doc, "code", _integer)
    if not 100 <= code <= 999:
        raise InvalidDocument(f"{field}.code", f"{code} is no three-digit reply code")
    return Response.of(code, _optional(doc, "message", _string, field))


def dump_response(response: Response) -> Json:
    return {"code": response.code, "message": response.message}


def parse_host_port(field: str, value: object) -> HostPort:
    pair = _list(field, value)
    if len(pair) != 2:
        raise InvalidDocument(field, 'must be ["host", port]')
    host, port = _string(f"{field}[0]", pair[0]), _integer(f"{field}[1]", pair[1])
    if not host or not _one_line(host):
        raise InvalidDocument(f"{field}[0]", "must be a host name or an IP address")
    if not 0 <= port <= 65535:
        raise InvalidDocument(f"{field}[1]", f"{port} is no TCP port")
    return HostPort(host, port)


def dump_host_port(address: HostPort) -> list[object]:
    return [address.host, address.port]


def parse_smtp_meta(field: str, value: object) -> SmtpMeta:
    doc = _object(field, value)
    ehlo_host = _optional(doc, "ehlo_host", _string, field)
    if ehlo_host is not None and not _one_line(ehlo_host):
        raise InvalidDocument(f"{field}.ehlo_host", "must not contain control characters")
    auth = doc.get("auth")
    if auth is not None and not isinstance(auth, bool):
        raise InvalidDocument(f"{field}.auth", "must be true, false or null")
    extra = {k: v for k, v in doc.items() if k not in ("ehlo_host", "esmtp", "tls", "auth")}
    return SmtpMeta(
        ehlo_host=ehlo_host,
        esmtp=_optional(doc, "esmtp", _boolean, field) or False,
        tls=_optional(doc, "tls", _boolean, field) or False,
        auth=auth,
        extra=extra or None,
    )


def dump_smtp_meta(meta: SmtpMeta) -> Json:
    return {
        "ehlo_host": meta.ehlo_host,
        "esmtp": meta.esmtp,
        "tls": meta.tls,
        "auth": meta.auth,
        **(meta.extra or {}),
    }


# --- how a document is taken apart ------------------------------------------------------------------------------------------


def _document(document: object, legal: frozenset[str]) -> Json:
    doc = _object("", document)
    for name, value in doc.items():
        if name not in legal:
            allowed = ", ".join(sorted(legal))
            raise InvalidDocument(name, f"not a field of this request; allowed are {allowed}")
        if value is None:
            raise InvalidDocument(name, "must not be null; leave the field out")
        if value == []:
            raise InvalidDocument(name, "must not be an empty list; leave the field out")
    return doc


def _optional(doc: Json, name: str, parse: Callable[[str, object], T], inside: str = "") -> T | None:
    value = doc.get(name)
    return None if value is None else parse(f"{inside}.{name}" if inside else name, value)


def _required(field: str, doc: Json, name: str, parse: Callable[[str, object], T]) -> T:
    if name not in doc:
        raise InvalidDocument(f"{field}.{name}", "is required")
    return parse(f"{field}.{name}", doc[name])


def _object(field: str, value: object) -> Json:
    if not isinstance(value, dict):
        raise InvalidDocument(field, "must be a JSON object")
    return cast("Json", value)


def _list(field: str, value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise InvalidDocument(field, "must be a list")
    return cast("Sequence[object]", value)


def _string(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidDocument(field, "must be a string")
    return value


def _boolean(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidDocument(field, "must be true or false")
    return value


def _integer(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDocument(field, "must be an integer")
    return value


def _count(field: str, value: object) -> int:
    number = _integer(field, value)
    if number < 0:
        raise InvalidDocument(field, "must not be negative")
    return number


def _only(field: str, doc: Json, names: Iterable[str]) -> None:
    for name in doc:
        if name not in names:
            raise InvalidDocument(f"{field}.{name}", f"unknown; allowed are {', '.join(names)}")


def _one_line(text: str) -> bool:
    return not any(ord(c) < 0x20 or ord(c) == 0x7F for c in text)


def _param(field: str, value: object) -> EsmtpParam:
    doc = _object(field, value)
    _only(field, doc, ("k", "p"))
    keyword = _required(field, doc, "k", _string)
    param = EsmtpParam(keyword, _optional(doc, "p", _string, field))
    if not keyword or not _one_line(str(param)) or " " in str(param):
        raise InvalidDocument(field, "must be one ESMTP parameter without spaces or control characters")
    return param


def _mailboxes(field: str, value: object) -> tuple[Mailbox, ...]:
    return tuple(parse_mailbox(f"{field}[{i}]", m) for i, m in enumerate(_list(field, value)))


def _responses(field: str, value: object) -> tuple[Response, ...]:
    return tuple(parse_response(f"{field}[{i}]", r) for i, r in enumerate(_list(field, value)))


def _sender_tag(field: str, value: object) -> str | None:
    doc = _object(field, value)
    _only(field, doc, ("name", "tag"))
    return _optional(doc, "tag", _string, field)


def _body_form(field: str, value: object) -> BodyForm | None:
    """The first form that is there; a document without a usable one is no body (rest-api.md §3.2)."""
    doc = _object(field, value)
    if doc.get("message_builder"):
        return BuilderBody(_object(f"{field}.message_builder", doc["message_builder"]))
    if "inline" in doc:
        return InlineBody(_string(f"{field}.inline", doc["inline"]).encode("utf-8", "surrogatepass"))
    if "reuse_uri" in doc:
        return ReuseBody(_string(f"{field}.reuse_uri", doc["reuse_uri"]))
    return None


def _blob_status(field: str, value: object) -> BlobStatus:
    doc = _object(field, value)
    return BlobStatus(_required(field, doc, "uri", _string), doc.get("finalized") in (True, "true"))


def _body_status(field: str, value: object) -> BodyStatus:
    doc = _object(field, value)
    builder = _optional(doc, "message_builder", _object, field)
    if builder is None:
        return BodyStatus(body=_optional(doc, "blob_status", _blob_status, field))
    blobs = _optional(builder, "blob_status", _object, f"{field}.message_builder")
    return BodyStatus(
        body=_optional(doc, "blob_status", _blob_status, field),
        builder_uri=_optional(builder, "uri", _string, f"{field}.message_builder"),
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
