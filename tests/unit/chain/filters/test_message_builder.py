import asyncio
from email import message_from_bytes, policy
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.chain.filters import message_builder
from koukan.message.bodies import SpecBody
from koukan.message.builder import parse_spec
from koukan.model import Body, Response
from tests.support.chains import MESSAGE, RecordingSink, make_chain, make_context, make_step, make_transaction, send

BUILDER = {"filter": "message_builder"}
SPEC: dict[str, Any] = {
    "headers": [["from", [{"address": "ann@example.com"}]], ["subject", "hi"]],
    "text_body": [{"content_type": "text/plain", "content": {"inline": "hello\n"}}],
    "file_attachments": [{"content_type": "text/csv", "filename": "f.csv", "content": {"create_id": "file"}}],
}

#: the text of the message is what is uploaded
OF_A_BLOB = {"text_body": [{"content_type": "text/plain", "content": {"create_id": "file"}}], "file_attachments": []}


def spec_body(file: Body, **changes: Any) -> SpecBody:
    spec = parse_spec({**SPEC, **changes})
    blobs: dict[str, Body] = {n: BytesBody(s.inline) for n, s in spec.sources.items() if s.inline is not None}
    return SpecBody(spec.document, {**blobs, "file": file})


async def test_a_spec_goes_on_as_a_message() -> None:
    sink = RecordingSink()
    run = make_chain([BUILDER, {"filter": "received_header"}], sink).open(make_transaction())
    result = await run.step(make_step("ann@example.com", ["bob@b.example"], spec_body(BytesBody(b"1,2"))))
    assert result.data == Response(250, "ok")
    message = message_from_bytes(sink.bodies[0], policy=policy.SMTP)
    assert message.keys() == ["Received", "from", "subject", "date", "message-id", "MIME-Version", "Content-Type"]
    assert [part.get_payload(decode=True) for part in message.iter_parts()] == [b"hello\n", b"1,2"]


async def test_other_bodies_pass() -> None:
    sink = RecordingSink()
    await send(make_chain([BUILDER], sink), make_transaction())
    assert sink.bodies == [MESSAGE]


async def test_a_bad_spec_is_refused_before_its_blobs_arrive() -> None:
    sink = RecordingSink()
    run = make_chain([BUILDER], sink).open(make_transaction())
    body = spec_body(SpooledBody(), headers=[["from", [{"address": "nobody"}]]])
    result = await asyncio.wait_for(run.step(make_step("ann@example.com", ["bob@b.example"], body)), 1)
    assert result.data == Response(550, "5.6.0 headers[0]: header from: 'nobody' is no mail address")
    assert sink.bodies == []


async def test_text_that_is_none_is_refused() -> None:
    sink = RecordingSink()
    run = make_chain([BUILDER], sink).open(make_transaction())
    result = await run.step(make_step("ann@example.com", ["bob@b.example"], spec_body(BytesBody(b"\xff"), **OF_A_BLOB)))
    assert result.data == Response(550, "5.6.0 text_body[0].content: text must be UTF-8")
    assert sink.bodies == []


async def test_text_that_turns_out_to_be_none_is_refused() -> None:
    """Nobody has seen a byte of the message then."""
    sink = RecordingSink()
    spool = SpooledBody()
    run = make_chain([BUILDER], sink).open(make_transaction())
    step = asyncio.create_task(run.step(make_step("ann@example.com", ["bob@b.example"], spec_body(spool, **OF_A_BLOB))))
    await asyncio.sleep(0)
    spool.append(b"\xff")
    spool.finish()
    result = await asyncio.wait_for(step, 1)
    assert result.data == Response(550, "5.6.0 text_body[0].content: text must be UTF-8")
    assert sink.bodies == []


async def test_a_client_that_goes_away_is_a_temporary_failure() -> None:
    spool = SpooledBody()
    run = make_chain([BUILDER], RecordingSink()).open(make_transaction())
    spool.abort("gone")
    result = await run.step(make_step("ann@example.com", ["bob@b.example"], spec_body(spool)))
    assert result.data is not None
    assert result.data.temporary


async def test_every_recipient_gets_the_same_message_id() -> None:
    sink = RecordingSink()
    body = spec_body(BytesBody(b""))
    for _ in range(2):
        run = make_chain([BUILDER], sink).open(make_transaction())
        await run.step(make_step("ann@example.com", ["bob@b.example"], body))
    first, second = (message_from_bytes(data, policy=policy.SMTP) for data in sink.bodies)
    assert first["message-id"] == second["message-id"]
    assert first["date"] == second["date"]


async def test_a_document_with_much_to_render_is_rendered_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RecordingSink()
    boxes = [{"address": f"a{i}@b.c"} for i in range(message_builder.INLINE_ITEMS)]
    run = make_chain([BUILDER], sink).open(make_transaction())
    body = spec_body(BytesBody(b""), headers=[*SPEC["headers"], ["to", boxes]])
    threads: list[bool] = []
    original = message_builder.compose

    def compose(*args: Any) -> Any:
        try:
            asyncio.get_running_loop()
            threads.append(False)
        except RuntimeError:
            threads.append(True)
        return original(*args)

    monkeypatch.setattr(message_builder, "compose", compose)
    await run.step(make_step("ann@example.com", ["bob@b.example"], body))
    small = make_step("ann@example.com", ["bob@b.example"], spec_body(BytesBody(b"")))
    await make_chain([BUILDER], sink).open(make_transaction()).step(small)
    assert threads == [True, False]
    assert sink.bodies[0].count(b"@b.c") == len(boxes)


def test_the_chain_still_streams() -> None:
    assert not make_chain([BUILDER], RecordingSink(), make_context()).waits_for_body
