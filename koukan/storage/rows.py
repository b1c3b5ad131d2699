"""Between our types and rows: envelopes, responses and specs are JSON text, row numbers are made up by the process.

What is read here was written here, so that it is taken apart without the checks that documents of clients get.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from koukan.model import EsmtpParam, HostPort, Mailbox, Response, Sender, SmtpMeta
from koukan.model.values import dump_mailbox, dump_response, dump_smtp_meta
from koukan.storage.database import Row
from koukan.storage.store import CANCELLED, BlobState, Envelope, NewTransaction, Responses, StoredTransaction

#: a row to be written, by column name
Record = dict[str, Any]


class Numbers:
    """Row numbers that nobody else makes up: the session's number above a counter."""

    def __init__(self, session_id: int) -> None:
        self._counter = itertools.count((session_id << 32) + 1)

    def __call__(self) -> int:
        return next(self._counter)


def dump_rows(rows: Sequence[Record]) -> str:
    """The first parameter of a bulk statement."""
    return _dump(rows)


def transaction_row(number: int, transaction: NewTransaction) -> Record:
    """A row of `transactions`."""
    return {
        "id": number,
        "rest_id": transaction.id,
        "envelope": _dump_envelope(transaction.envelope),
        "spec": None if transaction.spec is None else _dump(transaction.spec),
        "retry": transaction.retry,
        "notification": transaction.notification,
        "destination": transaction.destination,
        "attempts": transaction.attempts,
        "responses": dump_responses(transaction.responses),
        "final_reason": transaction.final_reason,
        "version": transaction.version,
    }


def load_transaction(row: Row, session_id: int) -> StoredTransaction:
    """A transaction of the statements in `loading`, as session `session_id` sees it."""
    blobs = orjson.loads(row["blobs"] or "[]")
    return StoredTransaction(
        id=row["rest_id"],
        envelope=load_envelope(row["envelope"]),
        blobs={name: BlobState(size, length) for name, _, size, length in blobs},
        blob_ids={name: number for name, number, _, _ in blobs},
        spec=None if row["spec"] is None else orjson.loads(row["spec"]),
        retry=bool(row["retry"]),
        notification=bool(row["notification"]),
        destination=row["destination"],
        attempts=row["attempts"] if row["attempt"] is None else row["attempt"],
        responses=_load_responses(row["responses"]),
        final_reason=row["final_reason"],
        cancelled=row["final_reason"] == CANCELLED,
        version=row["version"],
        age=float(row["age"]),
        lease_uri=row["uri"],
        leased_here=row["session_id"] == session_id,
        held=row["held"],
        tries=row["tries"] or 0,
    )


def dump_responses(responses: Responses) -> str:
    document: dict[str, Any] = {}
    if responses.mail is not None:
        document["mail"] = dump_response(responses.mail)
    if responses.rcpt:
        document["rcpt"] = [dump_response(response) for response in responses.rcpt]
    if responses.data is not None:
        document["data"] = dump_response(responses.data)
    return _dump(document)


def _load_responses(text: str) -> Responses:
    document = orjson.loads(text)
    mail, data = document.get("mail"), document.get("data")
    return Responses(
        mail=None if mail is None else _response(mail),
        rcpt=tuple(_response(response) for response in document.get("rcpt", ())),
        data=None if data is None else _response(data),
    )


def _dump_envelope(envelope: Envelope) -> str:
    document: dict[str, Any] = {"sender": [envelope.sender.name, envelope.sender.tag]}
    if envelope.mail_from is not None:
        document["mail_from"] = dump_mailbox(envelope.mail_from)
    if envelope.rcpt_to:
        document["rcpt_to"] = [dump_mailbox(mailbox) for mailbox in envelope.rcpt_to]
    if envelope.remote_host is not None:
        document["remote_host"] = [*envelope.remote_host]
    if envelope.local_host is not None:
        document["local_host"] = [*envelope.local_host]
    if envelope.smtp_meta is not None:
        document["smtp_meta"] = dump_smtp_meta(envelope.smtp_meta)
    return _dump(document)


def load_envelope(text: str) -> Envelope:
    """The envelope of a row."""
    document = orjson.loads(text)
    mail_from, meta = document.get("mail_from"), document.get("smtp_meta")
    return Envelope(
        sender=Sender(*document["sender"]),
        mail_from=None if mail_from is None else _mailbox(mail_from),
        rcpt_to=tuple(_mailbox(mailbox) for mailbox in document.get("rcpt_to", ())),
        remote_host=_host_port(document.get("remote_host")),
        local_host=_host_port(document.get("local_host")),
        smtp_meta=None if meta is None else _smtp_meta(meta),
    )


def _mailbox(document: Mapping[str, Any]) -> Mailbox:
    return Mailbox(document["m"], tuple(EsmtpParam(p["k"], p.get("p")) for p in document.get("e", ())))


def _host_port(document: Sequence[Any] | None) -> HostPort | None:
    return None if document is None else HostPort(*document)


def _response(document: Mapping[str, Any]) -> Response:
    return Response(document["code"], document["message"])


def _smtp_meta(document: dict[str, Any]) -> SmtpMeta:
    known = {name: document.pop(name) for name in ("ehlo_host", "esmtp", "tls", "auth")}
    return SmtpMeta(**known, extra=document or None)


def _dump(document: object) -> str:
    try:
        return orjson.dumps(document).decode()
    except TypeError:
        # A peer's reply may hold bytes that are no UTF-8 as lone surrogates, which no database takes as text.
        return json.dumps(document, ensure_ascii=False).encode(errors="replace").decode()
