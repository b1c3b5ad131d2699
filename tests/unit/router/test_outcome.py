"""What follows from an attempt that failed temporarily: when it is tried again, and when it is given up."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from koukan.chain.filter import Filter
from koukan.chain.transaction import Recipient, Transaction
from koukan.config.router import OutputHandlerConfig, RetryParams
from koukan.model import BODY_ABORTED, Mailbox, Response
from koukan.router.outcome import CANCELLED, DEADLINE, MAX_ATTEMPTS, NO_RETRY, Attempted, conclude, was_tried
from koukan.storage.store import Responses
from tests.support.chains import RecordingSink, make_chain, make_transaction, send

BUSY = Responses(Response(250, "ok"), (Response(250, "ok"),), Response(451, "4.3.0 busy"))
PARAMS = RetryParams(
    min_attempt_time=60, max_attempt_time=3600, bug_retry=1800, max_attempts=5, deadline=86_400, jitter=0
)


def attempted(*, attempt: int = 1, age: float = 0.0, retry: bool = True, **more: bool) -> Attempted:
    return Attempted(Mailbox("ann@example.com"), BUSY, attempt, age, retry, notification=True, **more)


@pytest.mark.parametrize(("age", "wait"), [(0, 60), (100, 150), (10_000, 3600)])
def test_waits_grow_with_the_age_within_their_bounds(age: float, wait: float) -> None:
    outcome = conclude(attempted(age=age), PARAMS, random.Random(1))
    assert (outcome.final_reason, outcome.retry_in, outcome.failure) == (None, wait, None)


def test_after_an_internal_error_the_wait_is_bug_retry_whatever_the_age() -> None:
    for age in (0, 100, 10_000):
        assert conclude(attempted(age=age, internal_error=True), PARAMS, random.Random(1)).retry_in == 1800


@pytest.mark.parametrize("internal_error", [False, True])
@pytest.mark.parametrize(("attempt", "age", "reason"), [(5, 0, MAX_ATTEMPTS), (1, 86_000, DEADLINE)])
def test_the_end_is_reported(attempt: int, age: float, reason: str, internal_error: bool) -> None:
    outcome = conclude(attempted(attempt=attempt, age=age, internal_error=internal_error), PARAMS, random.Random(1))
    assert (outcome.final_reason, outcome.retry_in, outcome.failure) == (reason, None, BUSY.data)


def test_without_retries_the_first_failure_is_the_end() -> None:
    assert conclude(attempted(retry=False), PARAMS, random.Random(1)).final_reason == NO_RETRY


OK, NOT_NOW, NEVER = Response(250, "ok"), Response(450, "4.2.1 not now"), Response(550, "5.1.1 never")


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        (Responses(OK, (OK,), OK), "upstream response success"),
        (Responses(OK, (OK, NEVER), OK), "upstream response success"),
        (Responses(NEVER), "upstream mail_response permfail"),
        (Responses(OK, (NEVER,), NEVER), "upstream rcpt_response permfail"),
        (Responses(OK, (NEVER, NEVER), NEVER), "exploder/oneshot all rcpts failed"),
        (Responses(OK, (NEVER, NOT_NOW), NOT_NOW), "exploder/oneshot all rcpts failed"),
        (Responses(OK, (OK,), NEVER), "upstream response permfail"),
    ],
)
def test_reasons_are_those_that_clients_of_the_existing_koukan_know(responses: Responses, reason: str) -> None:
    tried = Attempted(Mailbox("ann@example.com"), responses, 1, 0.0, retry=False, notification=False)
    assert conclude(tried, PARAMS, random.Random(1)).final_reason == reason
    gone = replace(tried, timed_out=True)
    assert conclude(gone, PARAMS, random.Random(1)).final_reason == "downstream timeout"


def test_a_cancelled_transaction_ends_as_cancelled_whatever_else_is_over_and_nobody_hears_of_it() -> None:
    for attempt, age in ((1, 0), (5, 86_000)):
        outcome = conclude(attempted(attempt=attempt, age=age, cancelled=True), PARAMS, random.Random(1))
        assert (outcome.final_reason, outcome.retry_in, outcome.failure) == (CANCELLED, None, None)


def test_a_chain_that_says_nothing_of_retries_waits_and_ends_by_the_defaults() -> None:
    params = OutputHandlerConfig().retry_params
    assert 60 <= (conclude(attempted(), params, random.Random(1)).retry_in or 0) <= 66
    assert conclude(attempted(attempt=30), params, random.Random(1)).final_reason == MAX_ATTEMPTS
    assert conclude(attempted(age=86_400), params, random.Random(1)).final_reason == DEADLINE


def test_jitter_lengthens_a_wait_by_its_share_at_most() -> None:
    params = PARAMS.model_copy(update={"jitter": 0.5})
    waits = {conclude(attempted(), params, random.Random(seed)).retry_in or 0 for seed in range(50)}
    assert 60 <= min(waits) < 65 and 85 < max(waits) <= 90


class Broken(Filter):
    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        raise LookupError("nobody foresaw this")


class Busy(Filter):
    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        return Response(451, "4.3.0 busy")


@pytest.mark.parametrize(("link", "internal_error"), [(Broken(), True), (Busy(), False)])
async def test_a_filter_that_raises_is_told_from_one_that_answers(link: Filter, internal_error: bool) -> None:
    tx = make_transaction()
    result = await send(make_chain([link], RecordingSink()), tx)
    assert [response.code for response in result.rcpt] == [451] and tx.internal_error is internal_error


@pytest.mark.parametrize(
    ("responses", "tried"),
    [
        (Responses(), False),
        (Responses(NOT_NOW), True),
        (Responses(OK, (NOT_NOW,)), True),
        (Responses(OK, (OK,), Response(451, "4.3.0 busy")), True),
        (Responses(OK, (OK,), BODY_ABORTED), False),
        (Responses(BODY_ABORTED), False),
    ],
)
def test_a_try_is_what_a_next_hop_was_asked_for(responses: Responses, tried: bool) -> None:
    assert was_tried(responses) == tried


def test_a_delivery_is_a_delivery_although_it_was_cancelled_meanwhile() -> None:
    delivered = replace(attempted(cancelled=True), responses=Responses(OK, (OK,), OK))
    assert conclude(delivered, PARAMS, random.Random(1)).final_reason == "upstream response success"
