"""The message after DATA: taken in chunks, handed on while it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from koukan.blob.bodies import BytesBody
from koukan.blob.stream import StreamBody
from koukan.errors import KoukanError
from koukan.model import Body, Response
from koukan.smtp.dots import DotDecoder

#: bytes kept until it is known whether the message is small; larger ones are handed on as they come
SMALL_MESSAGE = 64 * 1024
#: bytes read at a time
_READ_SIZE = 1024 * 1024


class MessageTooLarge(KoukanError):
    """The message is over the limit; it was read to its end and goes nowhere."""


async def receive_message(
    reader: asyncio.StreamReader,
    send: Callable[[Body], Awaitable[Response]],
    *,
    size_limit: int,
    timeout: float,
) -> Response:
    """Read a message up to its final dot, `timeout` seconds of silence at most, and answer what `send` said to it.

    Raises MessageTooLarge, TimeoutError, and ConnectionResetError when the client goes away: `send` then sees BodyAborted.
    """
    decoder = DotDecoder()
    small = bytearray()
    stream: StreamBody | None = None
    sending: asyncio.Future[Response] | None = None
    size = 0
    try:
        while not decoder.done:
            data = await _read(reader, decoder, timeout)
            size += len(data)
            if size > size_limit:
                if stream is not None:
                    stream.abort("the message is too large")
            elif stream is not None:
                await stream.write(data)
            else:
                small += data
                if len(small) > SMALL_MESSAGE and not decoder.done:
                    stream = StreamBody()
                    sending = asyncio.ensure_future(send(stream))
                    # An answer before the end means that nobody reads the rest; it must not hold up the client.
                    sending.add_done_callback(partial(_drop, stream))
                    await stream.write(bytes(small))
                    small.clear()
        if size > size_limit:
            raise MessageTooLarge(f"more than {size_limit} bytes")
        if stream is None or sending is None:
            return await send(BytesBody(bytes(small)))
        stream.finish()
        return await sending
    finally:
        if stream is not None:
            stream.abort("the client went away")
        if sending is not None and not sending.done():
            sending.cancel()


def _drop(stream: StreamBody, sending: asyncio.Future[Response]) -> None:
    stream.drop()


async def _read(reader: asyncio.StreamReader, decoder: DotDecoder, timeout: float) -> bytes:
    async with asyncio.timeout(timeout):
        chunk = await reader.read(_READ_SIZE)
    if not chunk:
        raise ConnectionResetError("the client went away within a message")
    data = decoder.feed(chunk)
    if decoder.rest:
        # read() took all there was, so the next commands go back to where the command loop finds them.
        reader.feed_data(decoder.rest)
    return data
