"""What follows from an attempt: it is over, it is retried, the sender is told (exploder-output-retries.md §2.1, §4, §5)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from koukan.config.router import RetryParams
from koukan.model import BODY_ABORTED, Mailbox, Response
from koukan.storage.store import Responses

SUCCESS = "upstream response success"
CANCELLED = "downstream cancelled"
TIMED_OUT = "downstream timeout"
ALL_RCPTS_FAILED = "exploder/oneshot all rcpts failed"
MAX_ATTEMPTS = "retry policy max attempts"
DEADLINE = "retry policy deadline"
#: a temporary failure of a sender that has no retries: visible, where the existing Koukan hides it
NO_RETRY = "upstream response tempfail, retries are off"

_NO_ANSWER = Response(451, "4.3.0 the attempt ended without an answer")


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt that has ended."""

    mail_from: Mailbox | None
    responses: Responses
    #: how many times the transaction has been tried by now, which is what policies count: see `was_tried`
    attempt: int
    #: seconds since the transaction was created
    age: float
    retry: bool
    notification: bool
    cancelled: bool = False
    timed_out: bool = False
    internal_error: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Final with a reason, or retried after `retry_in` seconds; `failure` is what a bounce has to report."""

    final_reason: str | None
    retry_in: float | None = None
    failure: Response | None = None


def conclude(attempted: Attempted, params: RetryParams, rng: random.Random) -> Outcome:
    """Decide what happens after an attempt."""
    if attempted.cancelled and not _delivered(attempted.responses):
        return Outcome(CANCELLED)
    if attempted.timed_out:
        return Outcome(TIMED_OUT)
    responses = attempted.responses
    failure, command = _first_failure(responses)
    if failure is None:
        return Outcome(SUCCESS)
    if command == "rcpt_" and len(responses.rcpt) > 1:  # interactive: their client has heard it
        return Outcome(ALL_RCPTS_FAILED, failure=_reported(attempted, failure))
    if failure.permanent:
        return Outcome(_permanent_reason(command), failure=_reported(attempted, failure))
    if not attempted.retry:
        return Outcome(NO_RETRY, failure=_reported(attempted, failure))
    reason, delay = next_attempt(attempted, params, rng)
    if reason is not None:
        return Outcome(reason, failure=_reported(attempted, failure))
    return Outcome(None, retry_in=delay)


def next_attempt(attempted: Attempted, params: RetryParams, rng: random.Random) -> tuple[str | None, float | None]:
    """After an attempt that failed temporarily: why to give up, or seconds to wait."""
    if params.max_attempts is not None and attempted.attempt >= params.max_attempts:
        return MAX_ATTEMPTS, None
    delay = max(min(attempted.age * params.backoff_factor, params.max_attempt_time), params.min_attempt_time)
    if attempted.internal_error:
        delay = params.bug_retry  # somebody has to mend the program first
    delay *= 1 + params.jitter * rng.random()
    if params.deadline is not None and attempted.age + delay > params.deadline:
        return DEADLINE, None
    return None, delay


def was_tried(responses: Responses) -> bool:
    """Whether a next hop was asked: it answered, or could not be reached. Our own trouble with the message is no try."""
    answers = (responses.mail, *responses.rcpt, responses.data)
    return any(answer is not None and answer != BODY_ABORTED for answer in answers) and responses.data != BODY_ABORTED


def _delivered(responses: Responses) -> bool:
    return responses.data is not None and responses.data.ok


def decisive(responses: Responses) -> Response | None:
    """The answer that says what became of the transaction; None when there is none at all."""
    failure, _ = _first_failure(responses)
    if failure is not None and failure is not _NO_ANSWER:
        return failure
    return responses.data or (responses.rcpt[-1] if responses.rcpt else responses.mail)


def _first_failure(responses: Responses) -> tuple[Response | None, str]:
    if responses.mail is not None and responses.mail.failed:
        return responses.mail, "mail_"
    failed = [r for r in responses.rcpt if r.failed]
    if failed and len(failed) == len(responses.rcpt):
        return next((r for r in failed if r.temporary), failed[0]), "rcpt_"
    if responses.data is None:
        return _NO_ANSWER, ""
    return (responses.data, "") if responses.data.failed else (None, "")


def _permanent_reason(command: str) -> str:
    return f"upstream {command}response permfail"


def _reported(attempted: Attempted, failure: Response) -> Response | None:
    """Bounces are never sent to the null sender (RFC 5321 §4.5.5)."""
    sender = attempted.mail_from
    return failure if attempted.notification and sender is not None and sender.address else None
