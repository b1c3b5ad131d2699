"""The words of the house: transaction, mailbox, response, step, body. Types only, no I/O."""

from koukan.model.body import Body, CompleteBody
from koukan.model.envelope import EsmtpParam, HostPort, Mailbox, Sender, SmtpMeta
from koukan.model.response import BODY_ABORTED, INTERNAL_ERROR, OUT_OF_STEP, Response
from koukan.model.step import Step, StepResult, Upstream

__all__ = [
    "BODY_ABORTED",
    "INTERNAL_ERROR",
    "OUT_OF_STEP",
    "Body",
    "CompleteBody",
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
