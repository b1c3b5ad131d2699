"""A resource and its driver: cancellation at every moment, broken upstreams, too many recipients, bytes let go."""

from __future__ import annotations

import asyncio

import pytest

from koukan.blob.bodies import BytesBody
from koukan.model import Mailbox, Response, Step, StepResult, Upstream
from koukan.model.documents import UpdateRequest
from koukan.rest.blobs import BODY, BlobSize
from koukan.rest.problems import BadRequest, Conflict
from koukan.rest.resource import MAX_SURPLUS, Resource

ANN = Mailbox("ann@example.net")
OK = Response(250, "ok")


class Scripted(Upstream):
    """Answers 250, hangs, or raises."""

    def __init__(self, trouble: Exception | None = None, *, hangs: bool = False) -> None:
        self.trouble = trouble
        self.hangs = hangs
        self.steps: list[Step] = []
        self.called = asyncio.Event()
        self.cancelled = 0

    async def _act(self) -> None:
        self.called.set()
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.trouble is not None:
            raise self.trouble

    async def step(self, step: Step) -> StepResult:
        self.steps.append(step)
        await self._act()
        return StepResult.all(step, OK)

    async def heartbeat(self) -> None:
        await self._act()

    async def cancel(self) -> None:
        self.cancelled += 1
        if self.trouble is not None:
            raise self.trouble


def rcpts(count: int) -> list[Mailbox]:
    return [Mailbox(f"r{number}@example.com") for number in range(count)]


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        await asyncio.wait([task])


async def test_cancelled_before_its_driver_has_begun() -> None:
    resource, upstream = Resource("1", True, mail_from=ANN), Scripted()
    driver = asyncio.ensure_future(resource.drive(upstream))
    assert resource.cancel(driver)
    await ended(driver)
    assert not driver.cancelled() and upstream.cancelled == 1 and not upstream.steps


async def test_cancelled_while_the_next_hop_is_silent() -> None:
    resource, upstream = Resource("1", True, mail_from=ANN), Scripted(hangs=True)
    driver = asyncio.ensure_future(resource.drive(upstream))
    await upstream.called.wait()
    assert resource.cancel(driver) and not resource.cancel(driver)
    await ended(driver)
    assert driver.cancelled() and upstream.cancelled == 1


async def test_cancelled_during_a_heartbeat_that_hangs() -> None:
    resource, upstream = Resource("1", True), Scripted(hangs=True)
    driver = asyncio.ensure_future(resource.drive(upstream))
    resource.heartbeat()
    await upstream.called.wait()
    assert not resource.waits_for_client
    assert resource.cancel(driver)
    await ended(driver)
    assert upstream.cancelled == 1


async def test_a_body_that_is_complete_in_the_moment_of_a_heartbeat() -> None:
    resource, upstream = Resource("1", True, mail_from=ANN, rcpt_to=rcpts(1)), Scripted()
    driver = asyncio.ensure_future(resource.drive(upstream))
    await resource.wait(lambda: not resource.unanswered, 5)
    resource.heartbeat()
    resource.body = BytesBody(b"x")
    resource.touch()
    await ended(driver)
    assert driver.exception() is None and resource.data_response == OK


async def test_too_late_to_cancel_once_the_data_is_answered() -> None:
    resource = Resource("1", True, mail_from=ANN, rcpt_to=rcpts(1), body=BytesBody(b"x"))
    await resource.drive(Scripted())
    assert resource.data_response == OK
    assert not resource.cancel(None) and not resource.cancelled


async def test_an_upstream_that_raises_is_a_temporary_failure_and_the_attempt_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resource = Resource("1-broken", True, mail_from=ANN, rcpt_to=rcpts(2))
    upstream = Scripted(ValueError("a bug"))
    await resource.drive(upstream)
    assert resource.mail_response is not None and resource.mail_response.code == 451
    assert [answer.code for answer in resource.rcpt_response] == [451, 451] and not resource.busy
    assert upstream.cancelled == 1
    assert all("1-broken" in record.getMessage() for record in caplog.records) and len(caplog.records) == 2


async def test_recipients_beyond_the_limit_are_answered_452_in_their_places() -> None:
    resource = Resource("1", True, mail_from=ANN, rcpt_to=rcpts(2), max_recipients=3)
    upstream = Scripted()
    driver = asyncio.ensure_future(resource.drive(upstream))
    await resource.wait(lambda: not resource.unanswered, 5)
    resource.accept(UpdateRequest(rcpt_to=tuple(rcpts(3)), rcpt_to_list_offset=2))
    await resource.wait(lambda: not resource.unanswered, 5)
    assert [answer.code for answer in resource.rcpt_response] == [250, 250, 250, 452, 452]
    resource.accept(UpdateRequest(rcpt_to=tuple(rcpts(1)), rcpt_to_list_offset=5))
    assert resource.rcpt_response[-1].code == 452 and not resource.unanswered
    assert sum(len(step.rcpt_to) for step in upstream.steps) == 3
    with pytest.raises(BadRequest, match="more than"):
        resource.accept(UpdateRequest(rcpt_to=tuple(rcpts(MAX_SURPLUS)), rcpt_to_list_offset=6))
    resource.cancel(driver)
    await ended(driver)


def test_a_resource_that_is_over_keeps_sizes_and_no_bytes() -> None:
    resource = Resource("1", True, body=BytesBody(b"xyz"), blobs={BODY: BlobSize(3, 3)})
    before = resource.document("http://a", "http://b")
    resource.ended = True
    resource.release()
    assert resource.body is None and resource.document("http://a", "http://b") == before


async def test_after_an_upstream_raised_nothing_goes_there_any_more() -> None:
    resource = Resource("1", True, mail_from=ANN, rcpt_to=rcpts(1))
    upstream = Scripted()
    driver = asyncio.ensure_future(resource.drive(upstream))
    await resource.wait(lambda: not resource.unanswered, 5)
    upstream.trouble = ValueError("a bug")
    resource.accept(UpdateRequest(rcpt_to=tuple(rcpts(1)), rcpt_to_list_offset=1))
    await resource.wait(lambda: not resource.unanswered, 5)
    upstream.trouble = None
    resource.body = BytesBody(b"x")
    resource.touch()
    await ended(driver)
    assert [answer.code for answer in resource.rcpt_response] == [250, 451]
    assert resource.data_response is not None and resource.data_response.code == 451
    assert len(upstream.steps) == 2 and upstream.cancelled == 1


async def test_a_body_that_is_on_its_way_is_not_called_back() -> None:
    resource = Resource("1", True, mail_from=ANN, rcpt_to=rcpts(1), body=BytesBody(b"x"), handed_over=True)
    upstream = Scripted(hangs=True)
    driver = asyncio.ensure_future(resource.drive(upstream))
    await upstream.called.wait()
    assert not resource.cancel(driver) and resource.cancel_asked and not resource.cancelled
    driver.cancel()
    await ended(driver)


async def test_a_client_that_was_silent_for_too_long_is_refused_before_anybody_has_noticed() -> None:
    resource = Resource("1", True, mail_from=ANN, patience=10)
    resource.last_input -= 11
    with pytest.raises(Conflict, match="10 s"):
        resource.accept(UpdateRequest(rcpt_to=tuple(rcpts(1))))
    assert resource.timed_out
