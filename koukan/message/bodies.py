"""Bodies that carry a message_builder document: a spec to be rendered, or a parsed message beside its raw bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from koukan.errors import InvalidMessage
from koukan.model import Body


class SpecBody(Body):
    """A message that exists as a builder spec and blobs (message-json.md §1); message_builder renders it.

    Every part's content in `spec` is `{"create_id": id}`; `blobs` holds the bytes by id.
    """

    def __init__(self, spec: Mapping[str, Any], blobs: Mapping[str, Body]) -> None:
        self.spec = spec
        self.blobs = blobs

    @property
    def length(self) -> None:
        return None

    @property
    def complete(self) -> bool:
        return all(blob.complete for blob in self.blobs.values())

    async def wait_complete(self) -> None:
        for blob in self.blobs.values():
            await blob.wait_complete()

    def abort(self, reason: str) -> None:
        for blob in self.blobs.values():
            blob.abort(reason)

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        raise InvalidMessage("a message_builder body needs the message_builder filter before it can be read")
        yield b""  # makes this an asynchronous generator, as the seam wants it


class ParsedBody(Body):
    """A message with what message_parser made of it (message-json.md §2), for receivers that take JSON.

    Read as a body it is the raw message.
    """

    def __init__(self, raw: Body, spec: Mapping[str, Any], blobs: Mapping[str, Body]) -> None:
        self.raw = raw
        self.spec = spec
        self.blobs = blobs
        self.replayable = raw.replayable

    @property
    def length(self) -> int | None:
        return self.raw.length

    @property
    def complete(self) -> bool:
        return self.raw.complete

    async def wait_complete(self) -> None:
        await self.raw.wait_complete()

    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        return self.raw.chunks(start)
