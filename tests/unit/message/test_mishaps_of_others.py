"""Messages that other programs have built wrongly, by the reports of their users, built here and read by Python."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any

import pytest

from koukan.blob.bodies import BytesBody
from koukan.message.builder import parse_spec
from koukan.message.composition import compose
from koukan.message.spec_rules import check_spec
from koukan.model import Body

TEXT = {"content_type": "text/plain", "content": {"inline": "Hello"}}


async def built(*headers: list[Any], files: dict[str, tuple[str, bytes]] | None = None, **spec: Any) -> bytes:
    """A message through all that a create request goes through. `files`: name, type and content."""
    document: dict[str, Any] = {"headers": [["from", "ann@example.com"], *headers], "text_body": [TEXT], **spec}
    attached = [
        {"content_type": kind, "filename": name, "content": {"create_id": f"f{i}"}}
        for i, (name, (kind, _)) in enumerate((files or {}).items())
    ]
    if attached:
        document["file_attachments"] = attached
    check_spec(document)
    parsed = parse_spec(document)
    blobs: dict[str, Body] = {n: BytesBody(s.inline) for n, s in parsed.sources.items() if s.inline is not None}
    blobs |= {f"f{i}": BytesBody(content) for i, (_, content) in enumerate((files or {}).values())}
    data = await compose(parsed.document, blobs).read()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    return data


def read(data: bytes) -> EmailMessage:
    return message_from_bytes(data, policy=policy.SMTP)


@pytest.mark.parametrize(
    "name",
    [
        "Ɣ------" * 7 + "Ɣ.pdf",  # sections of two kinds, one of them quoted: Gmail showed half of the name
        "long " * 200 + ".png",  # one line of a thousand characters
        "韩安哈哈" * 30 + ".xlsx",
        "😊" * 40 + ".txt",
        "Prüfbericht Q1; final (2).pdf",
        'a "quoted" \\ name.txt',
    ],
)
async def test_names_of_files(name: str) -> None:
    data = await built(files={name: ("application/pdf", b"%PDF")})
    [file] = read(data).iter_attachments()
    assert file.get_filename() == name
    sections = re.findall(rb"filename\*\d*\*?=(.)", data)
    assert name.isascii() or (sections and b'"' not in sections)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (
            "List-Unsubscribe",
            "<https://db.example.com/mailing/20/oneclick?document_id=279&email=user%40b.c&t=" + "cf90" * 40 + ">",
        ),
        (
            "List-Unsubscribe",
            "<mailto:u@b.c?subject=" + "x" * 90 + ">, <https://b.c/" + "eyJhbGciOiJIUzI1NiJ9." * 9 + ">",
        ),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-Id", "be1115d2-a845-4fc0-b5fa-f29c578f84ba.list-id." + "subdomain." * 8 + "example.com"),
        (
            "In-Reply-To",
            "<reference-to-long-but-perfectly-valid-message-id-that-others-encode@" + "mail." * 9 + "example.com>",
        ),
        ("References", " ".join(f"<{'0123456789abcdef' * 6}{i}@example.com>" for i in range(30))),
    ],
)
async def test_fields_that_software_reads_are_never_encoded(name: str, value: str) -> None:
    """Gmail showed no way to unsubscribe, and Outlook no thread."""
    data = await built([name, value])
    assert b"=?" not in data
    field = re.search(rb"(?mi)^%b:((?:[^\r]|\r\n[ \t])*)" % name.encode(), data)
    assert field is not None and field[1].replace(b"\r\n", b"").strip() == value.encode()


@pytest.mark.parametrize(
    "name",
    [
        "A véry long name with non-ASCII char and, comma",  # read as two addresses after it was folded
        "Fotololo.ru - Интернет магазин",  # shown up to where the quotes ended
        'The Best "Starbucks" in town',
        "Care Team, Billing",
        "Kovács Béla | Company Co.",
        "=?utf-8?q?not_encoded?= yet",
        "–" * 60,  # a character in two words
        "ショップ <admin@bank.example>",
    ],
)
async def test_display_names(name: str) -> None:
    data = await built(["to", [{"display_name": name, "address": "bob@example.net"}]])
    to: Any = read(data)["to"]
    [box] = to.addresses
    assert (box.display_name.replace(" ", ""), box.addr_spec) == (name.replace(" ", ""), "bob@example.net")
    words = re.findall(r"=\?[^ ]+?\?[qb]\?[^ ]+?\?=", data.decode())
    # Each word can be read alone. (The package of Python 3.11 puts spaces between those of a display name.)
    assert not words or "".join(str(make_header(decode_header(word))) for word in words) == name


async def test_an_invitation_beside_a_file() -> None:
    """Others left the alternative, or its method, out when there was an attachment: Outlook saw no invitation."""
    invitation = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
    calendar = {"content_type": "text/calendar; method=REQUEST", "content": {"inline": invitation}}
    files = {
        "invite.ics": ("text/calendar; method=REQUEST", invitation.encode()),
        "a.pdf": ("application/pdf", b"%PDF"),
    }
    message = read(await built(files=files, text_body=[TEXT, calendar]))
    alternative, attached, _ = message.iter_parts()
    shown = list(alternative.iter_parts())[1]
    assert [part.get_content_type() for part in alternative.iter_parts()] == ["text/plain", "text/calendar"]
    assert shown.get_param("method") == attached.get_param("method") == "REQUEST"
    assert attached.get_payload(decode=True) == shown.get_payload(decode=True) == invitation.encode()


async def test_lines_of_text_files_stay_as_they_are() -> None:
    files = {
        "utf16.txt": ("text/plain; charset=utf-16be", "eins\nzwei\n".encode("utf-16-be")),
        "unix.csv": ("text/csv", b"a,b\n1,2\n"),
        "mac.csv": ("text/csv", b"a,b\r1,2\r\n\n"),
    }
    message = read(await built(files=files))
    assert [part.get_payload(decode=True) for part in message.iter_attachments()] == [c for _, c in files.values()]


async def test_a_message_may_have_an_empty_text() -> None:
    empty = {"content_type": "text/plain", "content": {"inline": ""}}
    assert read(await built(text_body=[empty])).get_content().strip() == ""
