"""The words of the house: transaction, mailbox, response, step, body. Types only, no I/O."""

from koukan.model.body import Body
from koukan.model.envelope import EsmtpParam, HostPort, Mailbox, Sender, SmtpMeta
from koukan.model.response import Response
from koukan.model.step import Step, StepResult, Upstream

__all__ = [
    "Body",
    "EsmtpParam",
    "HostPort",
    "Mailbox",
    "Response",
    "Sender",
    "SmtpMeta",
    "Step",
    "StepResult",
    "Upstream",
]
