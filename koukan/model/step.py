"""The upstream seam: the unit of work is a step, what has arrived since the last one.

A step holds possibly the reverse-path, possibly recipients, possibly a body. Its result holds a response for exactly what was
in it, in the same order. Steps of one transaction never overlap; different transactions run concurrently. The chain engine,
the REST client, the SMTP client, the exploder and the test double all implement `Upstream`: none of them knows what is behind
the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from koukan.model.body import Body
from koukan.model.envelope import Mailbox
from koukan.model.response import Response


@dataclass(slots=True)
class Step:
    """What is new. The body may still be growing."""

    mail_from: Mailbox | None = None
    rcpt_to: Sequence[Mailbox] = ()
    body: Body | None = None


@dataclass(slots=True)
class StepResult:
    """One response for each part of the step: `mail` and `data` are None when the step did not hold that part."""

    mail: Response | None = None
    rcpt: list[Response] = field(default_factory=list)
    data: Response | None = None

    @classmethod
    def all(cls, step: Step, response: Response) -> StepResult:
        """The same answer to everything in the step."""
        return cls(
            mail=response if step.mail_from is not None else None,
            rcpt=[response] * len(step.rcpt_to),
            data=response if step.body is not None else None,
        )


class Upstream(Protocol):
    """One transaction on its way to whatever is behind: a chain, a REST peer, an SMTP server."""

    async def step(self, step: Step) -> StepResult:
        """Send what is new and wait for its answers.

        Never raises for what the next hop does: trouble is a 4xx in the result. May be cancelled (asyncio), after which
        only `cancel` is called. Data is answered 2xx only when the next hop has taken responsibility.
        """
        ...

    async def heartbeat(self) -> None:
        """Tell the next hop that the transaction is alive though nothing is new."""
        ...

    async def cancel(self) -> None:
        """End the transaction: free connections and tell the next hop unless data was answered. Idempotent, does not raise."""
        ...
