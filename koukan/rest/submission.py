"""A client of an application's kind: submits a message for one recipient after the other and follows what becomes of it.

The body is uploaded once and shared by the recipients after the first (`reuse_uri`, rest-api.md §3.2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from yarl import URL

from koukan.errors import UpstreamError
from koukan.model import Response
from koukan.model.documents import TransactionDocument
from koukan.rest.http import HttpClients, exchange, joined, shown
from koukan.rest.remote import read_document

#: seconds of one long poll
_POLL = 20
#: seconds between polls that a server answers at once
_SPACING = 1.0
#: bytes of a file sent at a time
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a builder spec with the files of its `create_id` parts, or a file that is a whole message."""

    spec: Mapping[str, Any] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    eml: Path | None = None


@dataclass(slots=True)
class Progress:
    """A transaction as it was last seen."""

    location: str
    rcpt_to: str
    document: TransactionDocument

    @property
    def answer(self) -> Response | None:
        """The answer that counts: a failure of an earlier command, else the data's."""
        failures = [
            r for r in (self.document.mail_response, *self.document.rcpt_response) if r is not None and r.failed
        ]
        return failures[0] if failures else self.document.data_response

    @property
    def final(self) -> bool:
        """Nothing more will happen."""
        return self.document.final_attempt_reason is not None


class Submission:
    """Transactions for one message at one sender's URL."""

    def __init__(self, clients: HttpClients, url: str, *, tag: str | None = None, verify: bool | str = True) -> None:
        self._http = clients.peer(url, verify)
        self._url = url
        self._tag = tag
        self._reuse: Mapping[str, str] = {}

    async def submit(self, mail_from: str, rcpt_to: str, message: Message) -> Progress:
        """Create the transaction and upload what it needs. Raises UpstreamError."""
        document: dict[str, Any] = {"mail_from": {"m": mail_from}, "rcpt_to": [{"m": rcpt_to}]}
        if self._tag is not None:
            document["sender"] = {"tag": self._tag}
        body = self._body(message)
        if body is not None:
            document["body"] = body
        answer = await exchange(
            self._http, "POST", self._url, orjson.dumps(document), {"content-type": "application/json"}
        )
        if answer.status != 201:
            raise UpstreamError(f"{self._url} answered {answer}")
        location = joined(self._url, answer.headers.get("location", ""))
        progress = Progress(location, rcpt_to, read_document(answer.body))
        await self._upload(progress, message)
        return progress

    async def follow(self, progress: Progress, timeout: float) -> AsyncIterator[Progress]:
        """The transaction each time it changes, until it is final or `timeout` seconds are over.

        A server that is in trouble is asked again, since it may be back soon. Raises UpstreamError when it is not.
        """
        deadline = time.monotonic() + timeout
        etag = ""
        trouble: UpstreamError | None = None
        while (left := deadline - time.monotonic()) > 0:
            asked = time.monotonic()
            headers = {"request-timeout": str(max(1, min(_POLL, int(left))))}
            if etag:
                headers["if-none-match"] = etag
            try:
                answer = await exchange(self._http, "GET", progress.location, None, headers)
                trouble = None if answer.status < 500 else UpstreamError(f"{progress.location} answered {answer}")
            except UpstreamError as error:
                trouble = error
            if trouble is not None:
                await asyncio.sleep(min(_SPACING, left))
            elif answer.status == 200 and answer.headers.get("etag") != etag:
                etag = answer.headers.get("etag", "")
                progress.document = read_document(answer.body)
                yield progress
                if progress.final:
                    return
            elif answer.status not in (200, 304):
                raise UpstreamError(f"{progress.location} answered {answer}")
            else:
                await asyncio.sleep(max(0.0, min(_SPACING, left) - (time.monotonic() - asked)))
        if trouble is not None:
            raise trouble

    def _body(self, message: Message) -> Mapping[str, Any] | None:
        if message.spec is None:
            return {"reuse_uri": self._reuse["body"]} if self._reuse else None
        return {"message_builder": _reusing(message.spec, self._reuse) if self._reuse else message.spec}

    async def _upload(self, progress: Progress, message: Message) -> None:
        status = progress.document.body
        if self._reuse or status is None:
            return
        places = dict(status.blobs or {})
        if message.eml is not None and status.body is not None:
            places["body"] = status.body
        files = {**message.files, **({"body": message.eml} if message.eml is not None else {})}
        for name, place in places.items():
            if not place.finalized and name in files:
                await self._put(joined(progress.location, place.uri), files[name])
        self._reuse = {name: URL(joined(progress.location, place.uri)).path for name, place in places.items()}

    async def _put(self, uri: str, path: Path) -> None:
        headers = {"content-length": str(_size(path)), "content-type": "application/octet-stream"}
        answer = await exchange(self._http, "PUT", uri, _pieces(path), headers, lambda: _pieces(path))
        if answer.status != 200:
            raise UpstreamError(f"{shown(uri)} answered the upload of {path} with {answer}")


def _reusing(spec: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """The spec with references to blobs that an earlier transaction has uploaded."""

    def content(part: Mapping[str, Any]) -> dict[str, Any]:
        place = places.get(part["content"].get("create_id", ""))
        return {**part, "content": {"reuse_uri": place}} if place is not None else dict(part)

    out = dict(spec)
    for kind in ("text_body", "related_attachments", "file_attachments"):
        parts: Sequence[Mapping[str, Any]] = spec.get(kind, ())
        if parts:
            out[kind] = [content(part) for part in parts]
    return out


def _size(path: Path) -> int:
    return path.stat().st_size


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
