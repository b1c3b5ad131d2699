"""What is said of an attempt that has ended: its log line and its counters."""

from __future__ import annotations

import logging

from koukan import metrics
from koukan.logs import event
from koukan.router import outcome as outcomes
from koukan.router.outcome import Outcome
from koukan.router.work import Work
from koukan.storage.store import Responses

logger = logging.getLogger("koukan.router")


def report(work: Work, responses: Responses, outcome: Outcome, kind: str, *, timed_out: bool = False) -> None:
    """The log line and the counters of one attempt. `timed_out`: its client fell silent, and it waits for the rest."""
    if outcome.final_reason is None:
        result = "waiting" if timed_out else "retry"
    else:
        result = "ok" if outcome.final_reason == outcomes.SUCCESS else "failed"
    metrics.TRANSACTIONS.labels(kind).inc()
    metrics.ATTEMPTS.labels(result).inc()
    metrics.DURATION.labels(kind).observe(work.age)
    for command, answers in (("mail", (responses.mail,)), ("rcpt", responses.rcpt), ("data", (responses.data,))):
        for answer in answers:
            metrics.count_reply(command, answer)
    envelope = work.envelope
    event(
        logger,
        logging.INFO,
        "transaction",
        id=work.id,
        sender=envelope.sender,
        kind=kind,
        mail_from=envelope.mail_from.address if envelope.mail_from is not None else None,
        rcpt_to=",".join(m.address for m in envelope.rcpt_to),
        client=envelope.remote_host,
        next_hop=work.tx.next_hop,
        attempt=work.attempt,
        result=result,
        reason=outcome.final_reason,
        retry_in=None if outcome.retry_in is None else round(outcome.retry_in, 1),
        answer=outcomes.decisive(responses),
        seconds=round(work.age, 3),
    )
