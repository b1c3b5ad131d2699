"""message_builder: renders a message_builder spec to a message (message-json.md §1). Other bodies pass through."""

from __future__ import annotations

from collections.abc import Mapping

from koukan.chain.filter import Context, Filter
from koukan.chain.transaction import Transaction
from koukan.config.filters import MessageBuilder
from koukan.executor import run_bounded
from koukan.message.bodies import SpecBody
from koukan.message.composition import compose
from koukan.model import Body

#: header fields, addresses and parts that are rendered at once; more than these take over 3 ms, off the event loop
INLINE_ITEMS = 500


class MessageBuilderFilter(Filter):
    """Refuses a bad document as soon as it is there; the message itself is made while it is read.

    So neither its size nor the time its blobs take to arrive hold anything up here. InvalidMessage says what is wrong.
    """

    needs_complete_body = False

    async def on_body(self, tx: Transaction, body: Body) -> Body | None:
        if not isinstance(body, SpecBody):
            return None
        if count_items(body.spec) > INLINE_ITEMS:
            composed = await run_bounded(compose, body.spec, body.blobs)
        else:
            composed = compose(body.spec, body.blobs)
        if composed.complete:
            # The rest is checked when it has arrived, before the first byte is handed on.
            await composed.check()
        return composed


def build(options: MessageBuilder, context: Context) -> MessageBuilderFilter:
    return MessageBuilderFilter()


def count_items(document: Mapping[str, object]) -> int:
    """How much there is to render."""
    count = 0
    for value in document.values():
        if isinstance(value, list):
            count += len(value) + sum(len(item[1]) for item in value if _holds_list(item))
    return count


def _holds_list(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[1], list)
