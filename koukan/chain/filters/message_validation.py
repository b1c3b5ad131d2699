"""message_validation: says how valid the message is (koukan.message.validation). Policies decide what follows."""

from __future__ import annotations

from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import MessageValidationOutput
from koukan.chain.transaction import Transaction
from koukan.config.filters import MessageValidation
from koukan.message.validation import validate
from koukan.model import Body


class MessageValidationFilter(Filter):
    """Never answers: every message gets a verdict."""

    reads_message = True

    async def on_body(self, tx: Transaction, body: Body) -> None:
        verdict = await validate(body, smtputf8=tx.smtputf8)
        tx.add_output(
            MessageValidationOutput(verdict.level, verdict.reason, verdict.received_count, from_address=verdict.sender)
        )


def build(options: MessageValidation, context: Context) -> MessageValidationFilter:
    return MessageValidationFilter()
