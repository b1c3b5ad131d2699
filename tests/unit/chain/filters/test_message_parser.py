import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody, ConcatBody
from koukan.blob.spool import SpooledBody
from koukan.chain.filter import Filter
from koukan.chain.filters import message_parser
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.router import RestEndpoint
from koukan.errors import BodyAborted
from koukan.message.bodies import ParsedBody
from koukan.message.parser import MAX_INLINE, MessageParser
from koukan.model import Body, Response, Step, StepResult, Upstream
from tests.support.chains import RecordingSink, make_chain, make_context, make_step, make_transaction

HEAD = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: a/b\r\n\r\n"
MESSAGE = HEAD + b"file\r\n--b--\r\n"


class ToReceiver(Filter):
    """Routes to an endpoint with these options."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> None:
        tx.route = Route(RestEndpoint(name="app", endpoint="http://app.invalid/"), options=self._options)


class Receiver(RecordingSink):
    """Keeps the document and the blobs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.document: Any = None
        self.blobs: dict[str, bytes] = {}

    def open(self, tx: Transaction) -> Upstream:
        outer, inner = self, super().open(tx)

        class Reader(Upstream):
            async def step(self, step: Step) -> StepResult:
                if isinstance(step.body, ParsedBody):
                    outer.document = step.body.spec
                    outer.blobs = {name: await blob.read() for name, blob in step.body.blobs.items()}
                return await inner.step(step)

            async def heartbeat(self) -> None:
                await inner.heartbeat()

            async def cancel(self) -> None:
                await inner.cancel()

        return Reader()


async def receive(options: Mapping[str, Any], body: bytes | Body = MESSAGE) -> tuple[Receiver, StepResult]:
    receiver = Receiver()
    run = make_chain([ToReceiver(options), {"filter": "message_parser"}], receiver).open(make_transaction())
    result = await run.step(make_step("ann@a.example", ["bob@b.example"], body))
    await run.cancel()
    return receiver, result


@pytest.mark.parametrize("value", [{}, None, True, {"max_inline": 100}, {"max_inline": "nonsense"}])
async def test_a_receiver_that_asks_gets_the_document_its_blobs_and_the_message(value: object) -> None:
    receiver, _ = await receive({"receive_parsing": value})
    assert receiver.document["text_body"] == [{"content_type": "text/plain", "content": {"inline": "hello"}}]
    assert receiver.document["file_attachments"] == [{"content_type": "a/b", "content": {"create_id": "0"}}]
    assert receiver.blobs == {"0": b"file"}
    assert receiver.bodies == [MESSAGE]


@pytest.mark.parametrize("options", [{}, {"receive_parsing": False}, {"send_filter_output": True}])
async def test_nobody_else_does(options: Mapping[str, Any]) -> None:
    receiver, _ = await receive(options)
    assert receiver.document is None
    assert receiver.bodies == [MESSAGE]


async def test_without_a_route_nothing_is_parsed() -> None:
    receiver = Receiver()
    run = make_chain([{"filter": "message_parser"}], receiver).open(make_transaction())
    await run.step(make_step("ann@a.example", ["bob@b.example"], MESSAGE))
    assert receiver.document is None


async def test_max_inline() -> None:
    receiver, _ = await receive({"receive_parsing": {"max_inline": 5}})
    assert receiver.blobs == {"0": b"hello", "1": b"file"}
    text = b"x" * (MAX_INLINE - 1)
    receiver, _ = await receive({"receive_parsing": {}}, b"\r\n" + text)
    assert receiver.blobs == {}
    receiver, _ = await receive({"receive_parsing": {}}, b"\r\n" + text + b"x")
    assert receiver.blobs == {"0": text + b"x"}


@pytest.mark.parametrize("size", [10, 5 * message_parser.INLINE_SIZE])
async def test_an_attached_message_arrives_with_all_its_bytes(size: int) -> None:
    inner = b"Subject: inner\r\n\r\n" + b"x" * size
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
    receiver, _ = await receive({"receive_parsing": {}}, head + inner + b"\r\n--b--\r\n")
    (part,) = receiver.document["file_attachments"]
    assert part["content_type"] == "message/rfc822"
    assert receiver.blobs[part["content"]["create_id"]] == inner


@pytest.mark.parametrize("size", [1000, message_parser.INLINE_SIZE, 5 * message_parser.INLINE_SIZE])
@pytest.mark.parametrize("known_length", [True, False])
async def test_large_messages_are_parsed_off_the_event_loop(
    size: int, known_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []

    class Spy(MessageParser):
        def feed(self, data: bytes) -> None:
            try:
                asyncio.get_running_loop()
                on_loop.append(True)
            except RuntimeError:
                on_loop.append(False)
            super().feed(data)

    monkeypatch.setattr(message_parser, "MessageParser", Spy)
    content = bytes(size)
    body: Body = BytesBody(HEAD + content + b"\r\n--b--\r\n")
    if not known_length:
        body = _Unknown([body])
    receiver, _ = await receive({"receive_parsing": {}}, body)
    assert receiver.blobs == {"0": content}
    assert set(on_loop) == {known_length and size < message_parser.INLINE_SIZE}


class _Unknown(ConcatBody):
    """A body that does not say how long it is."""

    @property
    def length(self) -> None:
        return None


async def test_files_are_freed_at_the_end_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[SpooledBody] = []
    original = SpooledBody.close
    monkeypatch.setattr(SpooledBody, "close", lambda self: (closed.append(self), original(self))[1])
    tx = make_transaction()
    chain = make_chain([ToReceiver({"receive_parsing": {}}), {"filter": "message_parser"}], Receiver())
    run = chain.open(tx)
    await run.step(make_step("ann@a.example", ["bob@b.example"], HEAD + bytes(200_000)))
    assert closed == []
    await run.cancel()
    assert len(closed) == 1
    assert tx.notes == {}


async def test_a_message_that_never_arrives_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(SpooledBody, "close", lambda self: closed.append(self.complete))
    body = SpooledBody()
    body.append(HEAD)
    filter_ = message_parser.build(Any, make_context())
    tx = make_transaction()
    tx.route = Route(RestEndpoint(name="app", endpoint="http://app.invalid/"), options={"receive_parsing": {}})
    parsing = asyncio.create_task(filter_.on_body(tx, body))
    await asyncio.sleep(0)
    body.abort("the client went away")
    with pytest.raises(BodyAborted):
        await parsing
    assert closed == [False]


async def test_a_cancelled_parse_closes_after_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    class Slow(MessageParser):
        def feed(self, data: bytes) -> None:
            entered.set()
            go_on.wait(5)
            super().feed(data)
            events.append("fed")

        def close(self) -> None:
            events.append("closed")
            super().close()

    monkeypatch.setattr(message_parser, "MessageParser", Slow)
    filter_ = message_parser.build(Any, make_context())
    tx = make_transaction()
    tx.route = Route(RestEndpoint(name="app", endpoint="http://app.invalid/"), options={"receive_parsing": {}})
    parsing = asyncio.create_task(filter_.on_body(tx, BytesBody(HEAD + bytes(message_parser.INLINE_SIZE))))
    await asyncio.to_thread(entered.wait, 5)
    parsing.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await parsing
    assert events == ["fed", "closed"]


@pytest.mark.parametrize(
    "message",
    [
        b"Date: tomorrow\r\n\r\n",
        b"Date: Wed, 06 Mar 2024 18:42:31 -0000\r\n\r\n",
        b"Date: Wed, 06 Mar 2024 18:42:31\r\n\r\n",
        b"Content-Type: text/plain; charset=x-nobody-knows\r\n\r\n\xff",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(30)),
    ],
)
async def test_what_used_to_be_poison_is_delivered(message: bytes) -> None:
    receiver, result = await receive({"receive_parsing": {}}, message)
    assert result.data == Response(250, "ok")
    assert receiver.document["parts"]["headers"]
    assert receiver.bodies == [message]
