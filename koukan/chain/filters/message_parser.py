"""message_parser: the message as JSON and blobs beside its bytes, where the route has receive_parsing (message-json.md §2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from koukan.chain.filter import Context, Filter
from koukan.chain.transaction import Transaction
from koukan.config.filters import MessageParser as Options
from koukan.executor import run_bounded
from koukan.message.bodies import ParsedBody
from koukan.message.parser import MAX_INLINE, MessageParser, ParsedMessage
from koukan.model import Body

P = ParamSpec("P")
T = TypeVar("T")

#: bytes that are parsed at once; larger messages are parsed off the event loop, in pieces of this size
INLINE_SIZE = 256 * 1024

_OPTION = "receive_parsing"


class MessageParserFilter(Filter):
    """Parses for receivers that want it; what they get as body is still the raw message."""

    reads_message = True

    def __init__(self, spool_directory: str | None) -> None:
        self._spool_directory = spool_directory

    async def on_body(self, tx: Transaction, body: Body) -> Body | None:
        wanted = _wanted(tx)
        if wanted is None:
            return None
        parsed = await self._parse(body, wanted)
        tx.notes[self] = parsed
        return ParsedBody(body, parsed.document, parsed.blobs)

    async def on_end(self, tx: Transaction) -> None:
        parsed = tx.notes.pop(self, None)
        if isinstance(parsed, ParsedMessage):
            parsed.close()

    async def _parse(self, body: Body, max_inline: int) -> ParsedMessage:
        parser = MessageParser(max_inline=max_inline, spool_directory=self._spool_directory)
        try:
            if body.length is not None and body.length <= INLINE_SIZE:
                async for chunk in body.chunks():
                    parser.feed(chunk)
                return parser.result(body)
            piece = bytearray()
            async for chunk in body.chunks():
                piece += chunk
                if len(piece) >= INLINE_SIZE:
                    await _off_loop(parser.feed, bytes(piece))
                    piece.clear()
            await _off_loop(parser.feed, bytes(piece))
            return await _off_loop(parser.result, body)
        except BaseException:
            parser.close()
            raise


def build(options: Options, context: Context) -> MessageParserFilter:
    return MessageParserFilter(context.config.global_.spool_directory)


async def _off_loop(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """run_bounded, but when cancelled it returns only after the thread has: the parser is closed then."""
    job = asyncio.ensure_future(run_bounded(func, *args, **kwargs))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.gather(job, return_exceptions=True)
        raise


def _wanted(tx: Transaction) -> int | None:
    """How many bytes of text the document may hold; None where nobody asked for it."""
    options = tx.route.options if tx.route is not None else {}
    receive: Any = options.get(_OPTION, False)
    if receive is False:  # that the key is there asks for it, even without a value
        return None
    limit = receive.get("max_inline") if isinstance(receive, Mapping) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else MAX_INLINE
