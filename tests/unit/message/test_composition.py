import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.errors import BodyAborted, InvalidMessage
from koukan.message.builder import parse_spec
from koukan.message.composition import ComposedBody, compose
from koukan.message.lexical import MAX_STRUCTURED
from koukan.model import Body

HEADERS: list[list[object]] = [
    ["From", [{"display_name": "Ann", "address": "ann@example.com"}]],
    ["date", {"unix_secs": 1709750551}],
    ["message-id", ["q1@example.com"]],
]


def text(content: str, content_type: str = "text/plain", **more: Any) -> dict[str, Any]:
    return {"content_type": content_type, "content": {"inline": content}, **more}


def blob(blob_id: str, content_type: str, **more: Any) -> dict[str, Any]:
    return {"content_type": content_type, "content": {"create_id": blob_id}, **more}


def composed(blobs: dict[str, bytes | Body] | None = None, **spec: Any) -> ComposedBody:
    parsed = parse_spec({"headers": HEADERS, **spec})
    bodies: dict[str, Body] = {n: BytesBody(s.inline) for n, s in parsed.sources.items() if s.inline is not None}
    for name, content in (blobs or {}).items():
        bodies[name] = BytesBody(content) if isinstance(content, bytes) else content
    return compose(parsed.document, bodies)


def parse(data: bytes) -> EmailMessage:
    """The message as Python's email package sees it, without a single defect."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", data), "line ends are CRLF"
    assert max(map(len, data.split(b"\r\n"))) <= 998
    message = message_from_bytes(data, policy=policy.SMTP)
    for part in message.walk():
        if not part.is_multipart():
            part.get_payload(decode=True)
        assert part.defects == []
        for value in part.values():
            assert getattr(value, "defects", ()) == ()
    return message


def outline(part: EmailMessage) -> Any:
    """The structure as nested lists of types."""
    if part.get_content_maintype() != "multipart":
        return part.get_content_type()
    return [part.get_content_subtype(), *(outline(child) for child in part.iter_parts())]


async def built(blobs: dict[str, bytes | Body] | None = None, **spec: Any) -> EmailMessage:
    return parse(await composed(blobs, **spec).read())


PLAIN, HTML = text("hello"), text("<p>hello</p>", "text/html")
PICTURE = blob("pic", "image/png", content_id="logo@x")
FILE = blob("file", "application/pdf", filename="r.pdf")
BLOBS: dict[str, bytes | Body] = {"pic": b"\x89PNG", "file": b"%PDF" * 100}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "text/plain"),
        ({"text_body": [PLAIN]}, "text/plain"),
        ({"text_body": [HTML]}, "text/html"),
        ({"text_body": [PLAIN, HTML]}, ["alternative", "text/plain", "text/html"]),
        ({"text_body": [HTML, PLAIN]}, ["alternative", "text/plain", "text/html"]),
        (
            {"text_body": [HTML, PLAIN, text("x", "text/calendar")]},
            ["alternative", "text/plain", "text/html", "text/calendar"],
        ),
        ({"text_body": [HTML], "related_attachments": [PICTURE]}, ["related", "text/html", "image/png"]),
        ({"text_body": [PLAIN], "related_attachments": [PICTURE]}, ["related", "text/plain", "image/png"]),
        (
            {"text_body": [HTML, PLAIN], "related_attachments": [PICTURE]},
            ["alternative", "text/plain", ["related", "text/html", "image/png"]],
        ),
        ({"file_attachments": [FILE]}, ["mixed", "application/pdf"]),
        ({"related_attachments": [PICTURE]}, ["related", "image/png"]),
        ({"text_body": [PLAIN], "file_attachments": [FILE]}, ["mixed", "text/plain", "application/pdf"]),
        (
            {"text_body": [PLAIN, HTML], "related_attachments": [PICTURE], "file_attachments": [FILE]},
            ["mixed", ["alternative", "text/plain", ["related", "text/html", "image/png"]], "application/pdf"],
        ),
    ],
)
async def test_structure(spec: dict[str, Any], expected: Any) -> None:
    message = await built(BLOBS, **spec)
    assert outline(message) == expected
    assert message["mime-version"] == "1.0"
    assert message["message-id"] == "<q1@example.com>"


async def test_a_message_without_parts_is_an_empty_text() -> None:
    assert await composed().read() == (
        b"From: Ann <ann@example.com>\r\ndate: Wed, 06 Mar 2024 18:42:31 +0000\r\nmessage-id: <q1@example.com>\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    )


async def test_the_contents_come_back() -> None:
    content = bytes(range(256)) * 11
    message = await built(
        {"pic": b"", "file": content}, text_body=[text("grüße\nzwei\n"), HTML], file_attachments=[FILE]
    )
    plain, html, file = (part for part in message.walk() if not part.is_multipart())
    assert plain.get_payload(decode=True) == "grüße\nzwei\n".encode()
    assert plain.get_content_charset() == html.get_content_charset() == "utf-8"
    assert file.get_payload(decode=True) == content


async def test_dispositions_and_ids() -> None:
    files = [FILE, blob("file", "a/b"), blob("file", "a/b", filename='ré"port.pdf', content_id="<x@y>")]
    files = [{**part, "content": {"create_id": f"f{i}"}} for i, part in enumerate(files)]
    message = await built(
        {"pic": b"", **{f"f{i}": b"" for i in range(3)}},
        text_body=[{**HTML, "content_id": "root@x"}],
        related_attachments=[{**PICTURE, "filename": "ignored.png"}],
        file_attachments=files,
    )
    html, picture, pdf, unnamed, report = (part for part in message.walk() if not part.is_multipart())
    assert (html["content-id"], html["content-disposition"]) == ("<root@x>", None)
    assert (picture["content-id"], picture["content-disposition"]) == ("<logo@x>", "inline")
    assert (pdf.get_content_disposition(), pdf.get_filename()) == ("attachment", "r.pdf")
    assert (unnamed.get_content_disposition(), unnamed.get_filename()) == ("attachment", None)
    assert (report["content-id"], report.get_filename()) == ("<x@y>", 'ré"port.pdf')


async def test_parameters_of_types_are_kept_and_text_is_utf8() -> None:
    invitation = text("x", 'Text/Calendar; method="REQUEST"; charset=latin1')
    message = await built({"file": b""}, text_body=[invitation], file_attachments=[blob("file", "a/b; c=d; charset=x")])
    calendar, file = message.iter_parts()
    assert str(calendar["content-type"]) == 'text/calendar; charset="utf-8"; method="REQUEST"'
    assert str(file["content-type"]) == 'a/b; c="d"'


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        # Excel's "CSV (separated by semicolons)" and an ICS export of an old Outlook
        ("text/csv; charset=windows-1252", "Größe;Preis €\r\n".encode("cp1252"), 'text/csv; charset="windows-1252"'),
        ("text/csv", "Größe;Preis €\r\n".encode("cp1252"), "text/csv"),
        ("text/calendar", "SUMMARY:Grüße\r\n".encode("cp1252"), "text/calendar"),
        ("text/csv", "Größe\r\n".encode(), 'text/csv; charset="utf-8"'),
        ("text/plain; charset=utf-16", "Größe".encode("utf-16"), 'text/plain; charset="utf-16"'),
        ("text/plain; charset=iso-2022-jp", "日本".encode("iso2022_jp"), 'text/plain; charset="iso-2022-jp"'),
        ("text/x-log", bytes(range(256)), "text/x-log"),
    ],
)
@pytest.mark.parametrize("kept_in", ["file_attachments", "related_attachments"])
async def test_text_files_keep_their_bytes(kept_in: str, kind: str, content: bytes, expected: str) -> None:
    message = await built({"file": content}, text_body=[HTML], **{kept_in: [blob("file", kind)]})
    _, file = message.iter_parts()
    assert file.get_payload(decode=True) == content
    assert str(file["content-type"]) == expected


async def test_a_file_that_came_as_text_is_utf8() -> None:
    message = await built(
        text_body=[PLAIN], file_attachments=[text("Größe", "text/csv; header=present; charset=cp1252")]
    )
    _, file = message.iter_parts()
    assert str(file["content-type"]) == 'text/csv; charset="utf-8"; header="present"'
    assert file.get_content() == "Größe"


@pytest.mark.parametrize(
    "name",
    [
        "x" * 2000 + ".pdf",
        "日本語の" * 60 + ".pdf",
        "Angebot für Müller & Söhne; Stand 3. März (endgültig, wirklich).pdf",
    ],
)
async def test_files_have_names_of_any_length(name: str) -> None:
    data = await composed({"file": b"%PDF"}, text_body=[PLAIN], file_attachments=[FILE | {"filename": name}]).read()
    assert max(map(len, data.split(b"\r\n"))) <= 78
    _, file = parse(data).iter_parts()
    assert file.get_filename() == name


async def test_the_root_of_related_parts_is_named() -> None:
    """RFC 2387 §3.1."""
    message = await built(BLOBS, text_body=[HTML], related_attachments=[PICTURE])
    assert message.get_param("type") == "text/html"


INNER = b"From: b@c.d\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ninner\r\n--x--\r\n"


async def test_attached_messages_are_not_encoded() -> None:
    """RFC 2046 §5.2.1."""
    data = await composed({"m": INNER}, text_body=[PLAIN], file_attachments=[blob("m", "message/rfc822")]).read()
    message = parse(data)
    attached: Any = list(message.iter_parts())[1]
    assert attached["content-transfer-encoding"] == "7bit"
    assert attached.get_content().as_bytes() == INNER
    assert INNER + b"\r\n--" in data
    assert message["content-transfer-encoding"] is None


async def test_8bit_within_is_8bit_around() -> None:
    """RFC 2045 §6.4: a container says 8bit when anything in it does."""
    inner = "Subject: grüße\n\nbare\rends".encode()
    message = parse(
        await composed(
            {"m": inner, "pic": b""},
            text_body=[HTML, PLAIN],
            related_attachments=[PICTURE],
            file_attachments=[blob("m", "message/rfc822")],
        ).read()
    )
    alternative, attached = message.iter_parts()
    assert message["content-transfer-encoding"] == attached["content-transfer-encoding"] == "8bit"
    assert alternative["content-transfer-encoding"] is None
    payload: Any = attached.get_payload()
    assert payload[0].as_bytes() == "Subject: grüße\r\n\r\nbare\r\nends".encode()


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [("message/global", "base64"), ("message/partial", "7bit"), ("message/delivery-status", "7bit")],
)
async def test_other_messages(content_type: str, encoding: str) -> None:
    data = await composed({"m": b"A: b\r\n"}, file_attachments=[blob("m", content_type)]).read()
    assert f"Content-Transfer-Encoding: {encoding}\r\n".encode() in data


async def test_boundaries_cannot_be_guessed() -> None:
    boundaries = {(await built(text_body=[PLAIN, HTML])).get_boundary() for _ in range(5)}
    assert len(boundaries) == 5
    assert all(len(boundary or "") >= 32 for boundary in boundaries)


# --- what cannot be rendered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"content_type": None}, r"file_attachments\[0\].content_type: must be a string"),
        ({"content_type": "pdf"}, "'pdf' is no type/subtype"),
        ({"content_type": "application/pdf\r\nBcc: x@y.z"}, "is no type/subtype"),
        ({"content_type": "multipart/mixed"}, "made from parts"),
        ({"content_id": "a b"}, "is no message id"),
        ({"content_id": 3}, r"file_attachments\[0\].content_id: must be a string"),
        ({"content_id": "a>\r\nBcc: x@y.z"}, "is no message id"),
        ({"filename": 3}, r"file_attachments\[0\].filename: must be a string"),
        ({"filename": "a\r\nBcc: x@y.z"}, r"file_attachments\[0\].filename: control character"),
        ({"filename": "x" * (MAX_STRUCTURED + 1)}, "longer than 262144"),
    ],
)
def test_bad_parts_are_refused(part: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        composed({"file": b""}, file_attachments=[FILE | part])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"text_body": 3}, "text_body: must be a list"),
        ({"text_body": [3]}, r"text_body\[0\]: must be a JSON object"),
        ({"text_body": [{"content_type": "text/plain"}]}, r"text_body\[0\].content: there is no blob None"),
        ({"text_body": [blob("x", "text/plain")]}, "there is no blob 'x'"),
        ({"text_body": [PLAIN] * 1001}, "more than 1000 parts"),
        ({"headers": 3}, "headers: must be a list"),
    ],
)
def test_bad_documents_are_refused(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        compose(document, {})


async def test_text_that_is_no_utf8_is_refused_before_the_first_byte() -> None:
    body = composed({"file": b"gr\xfc\xdfe"}, text_body=[PLAIN, blob("file", "text/html")])
    with pytest.raises(InvalidMessage, match=r"text_body\[1\].content: text must be UTF-8"):
        await anext(aiter(body.chunks()))
    with pytest.raises(InvalidMessage):
        await body.wait_complete()


def test_date_and_message_id_are_made_where_a_document_has_none() -> None:
    head = parse(asyncio.run(compose({"headers": HEADERS[:1]}, {}).read()))
    assert abs((head["date"].datetime - datetime.now(UTC)).total_seconds()) < 60
    assert head["message-id"].endswith("@example.com>")


# --- while it is read --------------------------------------------------------------------------------------------------------


async def test_any_offset_of_a_message_is_the_same_bytes() -> None:
    body = composed(
        {"pic": b"x" * 1000, "file": b"y" * 58, "m": INNER},
        text_body=[PLAIN, HTML],
        related_attachments=[PICTURE],
        file_attachments=[FILE, blob("m", "message/rfc822")],
    )
    whole = await body.read()
    assert body.length == len(whole)
    for start in range(len(whole) + 2):
        assert b"".join([chunk async for chunk in body.chunks(start)]) == whole[start:]


async def test_contents_that_are_still_arriving() -> None:
    spool = SpooledBody()
    body = composed({"file": spool}, text_body=[PLAIN], file_attachments=[FILE])
    assert not body.complete
    assert body.length is None
    spool.append(b"half ")
    reader = asyncio.create_task(body.read())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reader.done()
    spool.append(b"and half")
    spool.finish()
    message = parse(await asyncio.wait_for(reader, 1))
    assert body.complete
    assert list(message.iter_parts())[1].get_payload(decode=True) == b"half and half"


async def test_contents_that_never_arrive() -> None:
    spool = SpooledBody()
    body = composed({"file": spool}, file_attachments=[FILE])
    spool.append(b"half")
    body.abort("the client went away")
    with pytest.raises(BodyAborted):
        await body.read()
    with pytest.raises(BodyAborted):
        await body.wait_complete()


class _Zeros(Body):
    """A large content that takes no memory."""

    length = 20_000_000
    complete = True

    async def wait_complete(self) -> None:
        return None

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        for offset in range(start, self.length, 65536):
            yield bytes(min(65536, self.length - offset))


async def test_a_large_attachment_is_never_in_memory() -> None:
    body = composed({"file": _Zeros()}, text_body=[PLAIN], file_attachments=[FILE])
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_work())
    tracemalloc.start()
    size = 0
    async for chunk in body.chunks():
        size += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    other.cancel()
    assert size == body.length == pytest.approx(20_000_000 / 57 * 78, rel=0.001)
    assert peak < 2_000_000
    assert turns >= 20, "other tasks get their turn meanwhile"
