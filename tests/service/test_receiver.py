"""The sample receiver keeps what it has answered 250 for, whatever comes later."""

from __future__ import annotations

import json
from pathlib import Path

from koukan.dev.receiver import Receiver
from koukan.model import HostPort
from tests.support.house import LOOPBACK
from tests.support.wire import JSON, request

ENVELOPE = {"mail_from": {"m": "ann@example.com"}, "rcpt_to": [{"m": "desk@app.example.com"}]}


async def deliver(directory: Path, content: bytes) -> str:
    """One message to a receiver that is started for it."""
    receiver = Receiver(directory)
    await receiver.start(HostPort(LOOPBACK, 0))
    try:
        url = f"http://{LOOPBACK}:{receiver.address.port}/senders/koukan/transactions"
        headers = {**JSON, "koukan-transaction": "1-abc", "koukan-attempt": "2"}
        created = await request("POST", url, json.dumps(ENVELOPE).encode(), headers)
        assert created.headers["etag"] == '"1"'
        location = created.headers["location"]
        assert (await request("PUT", f"{location}/body", content)).status == 200
        return location.rpartition("/")[2]
    finally:
        await receiver.stop()


async def test_a_restart_overwrites_nothing(tmp_path: Path) -> None:
    contents = [b"first\r\n", b"second\r\n", b"third\r\n"]
    ids = [await deliver(tmp_path, content) for content in contents]
    assert sorted(set(ids)) == ids, "they come in the order of arrival"
    assert [(tmp_path / f"{name}.eml").read_bytes() for name in ids] == contents
    kept = json.loads((tmp_path / f"{ids[0]}.json").read_bytes())
    assert (kept["transaction"], kept["attempt"], kept["envelope"]) == ("1-abc", "2", ENVELOPE)


async def test_ids_of_before_a_restart_are_unknown_after_it(tmp_path: Path) -> None:
    name = await deliver(tmp_path, b"first\r\n")
    receiver = Receiver(tmp_path)
    await receiver.start(HostPort(LOOPBACK, 0))
    try:
        base = f"http://{LOOPBACK}:{receiver.address.port}"
        await request("POST", f"{base}/mail", json.dumps(ENVELOPE).encode(), JSON)
        assert (await request("PUT", f"{base}/transactions/{name}/body", b"other")).status == 404
    finally:
        await receiver.stop()
    assert (tmp_path / f"{name}.eml").read_bytes() == b"first\r\n"


async def test_attachments_do_not_take_the_names_of_other_files(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    await receiver.start(HostPort(LOOPBACK, 0))
    try:
        created = await request("POST", f"http://{LOOPBACK}:{receiver.address.port}/mail", b"{}", JSON)
        spec = {"file_attachments": [{"content_type": "a/b", "content": {"create_id": "eml"}}]}
        reply = await request("POST", f"{created.headers['location']}/message_builder", json.dumps(spec).encode(), JSON)
        assert reply.status == 400 and "'eml'" in reply.text
    finally:
        await receiver.stop()
