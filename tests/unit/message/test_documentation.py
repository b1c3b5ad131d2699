"""The examples of docs/reference/messages.md are true."""

import json
import re
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from koukan.blob.bodies import BytesBody
from koukan.message.builder import parse_spec
from koukan.message.composition import compose
from koukan.message.parser import MessageParser

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "messages.md"
SENT, RECEIVED = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL))

MESSAGE = """\
From: Ann <ann@example.com>
Date: Wed, 06 Mar 2024 10:42:31 -0800
Message-ID: <q1@example.com>
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=iso-8859-1

Grüße
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename="report.pdf"

%PDF
--b--
"""


async def test_the_document_that_is_sent() -> None:
    spec = parse_spec(SENT)
    assert set(spec.sources) == {"inline0", "inline1", "logo", "report"}
    blobs = {name: BytesBody(source.inline or b"x") for name, source in spec.sources.items()}
    message = message_from_bytes(await compose(spec.document, blobs).read(), policy=policy.SMTP)
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    to: Any = message["to"]
    assert [address.addr_spec for address in to.addresses] == ["bob@example.net", "eve@example.net"]


def test_the_document_that_is_received() -> None:
    parser = MessageParser()
    parser.feed(MESSAGE.encode("latin-1"))
    parsed = parser.result(BytesBody(MESSAGE.encode("latin-1")))
    parsed.close()
    assert parsed.document == RECEIVED
