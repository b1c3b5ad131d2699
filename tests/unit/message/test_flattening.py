"""What people see of a message: messages in the forms in which mail programs nest them."""

import email
import importlib.util
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody
from koukan.message.parser import MAX_PARTS, MessageParser, ParsedMessage

LISTS = ("text_body", "related_attachments", "file_attachments")


def parse(data: str | bytes) -> ParsedMessage:
    data = data.encode() if isinstance(data, str) else data
    parser = MessageParser(max_inline=100_000)
    parser.feed(data)
    return parser.result(BytesBody(data))


def document_of(data: str | bytes) -> dict[str, Any]:
    parsed = parse(data)
    parsed.close()
    return parsed.document


async def contents(data: str | bytes) -> dict[str, list[str]]:
    """The flat lists, each part by its content."""
    parsed = parse(data)
    found: dict[str, list[str]] = {}
    for name in LISTS:
        for part in parsed.document.get(name, []):
            content = part["content"]
            text = content["inline"] if "inline" in content else await read(parsed, content["create_id"])
            found.setdefault(name, []).append(text)
    parsed.close()
    return found


async def read(parsed: ParsedMessage, blob_id: str) -> str:
    return (await parsed.blobs[blob_id].read()).decode("utf-8", "replace")


def types(data: str | bytes) -> dict[str, list[str]]:
    """The flat lists, each part by its type."""
    document = document_of(data)
    return {k: [p["content_type"] for p in v] for k, v in document.items() if k != "parts"}


def multipart(subtype: str, *parts: str, boundary: str = "b") -> str:
    body = "".join(f"--{boundary}\r\n{p}\r\n" for p in parts)
    return f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n{body}--{boundary}--\r\n'


PLAIN = "Content-Type: text/plain\r\n\r\nplain"
HTML = "Content-Type: text/html\r\n\r\n<p>"
PICTURE = "Content-Type: image/png\r\nContent-ID: <logo@x>\r\n\r\npng"
FILE = 'Content-Type: a/b\r\nContent-Disposition: attachment; filename="f.b"\r\n\r\nfile'
SIGNATURE = "Content-Type: application/pgp-signature; name=signature.asc\r\n\r\nsig"
CALENDAR = "Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\nBEGIN:VCALENDAR"
FOOTER = (
    "Content-Type: text/plain; charset=us-ascii\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n"
    "Content-Disposition: inline\r\n\r\n_____\r\nlist mailing list"
)
MESSAGE = "Content-Type: message/rfc822\r\n\r\nSubject: x\r\nContent-Type: text/html\r\n\r\ninner"

TEXTS = ["text/plain", "text/html"]
ALTERNATIVE = multipart("alternative", PLAIN, HTML, boundary="alt")
RELATED = multipart("related", HTML, PICTURE, boundary="rel")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PLAIN, {"text_body": ["text/plain"]}),
        (HTML, {"text_body": ["text/html"]}),
        (ALTERNATIVE, {"text_body": TEXTS}),
        (RELATED, {"text_body": ["text/html"], "related_attachments": ["image/png"]}),
        (multipart("alternative", PLAIN, RELATED), {"text_body": TEXTS, "related_attachments": ["image/png"]}),
        (multipart("related", ALTERNATIVE, PICTURE), {"text_body": TEXTS, "related_attachments": ["image/png"]}),
        (
            multipart("mixed", multipart("alternative", PLAIN, RELATED, boundary="alt"), FILE),
            {"text_body": TEXTS, "related_attachments": ["image/png"], "file_attachments": ["a/b"]},
        ),
        # nothing but a file: a fax, a scanner, a report of DMARC
        (FILE, {"file_attachments": ["a/b"]}),
        (PICTURE, {"file_attachments": ["image/png"]}),
        (CALENDAR, {"file_attachments": ["text/calendar"]}),
        ("Content-Disposition: attachment\r\n" + PLAIN, {"file_attachments": ["text/plain"]}),
        (MESSAGE, {"file_attachments": ["message/rfc822"]}),
        (multipart("mixed", FILE, FILE), {"file_attachments": ["a/b", "a/b"]}),
        # alternatives of all kinds
        (multipart("alternative", HTML), {"text_body": ["text/html"]}),
        (multipart("alternative", PLAIN), {"text_body": ["text/plain"]}),
        (multipart("alternative", HTML, PLAIN), {"text_body": ["text/html", "text/plain"]}),
        (multipart("alternative", PLAIN, FILE, HTML), {"text_body": TEXTS, "file_attachments": ["a/b"]}),
        (multipart("alternative", PLAIN, HTML, CALENDAR), {"text_body": TEXTS, "file_attachments": ["text/calendar"]}),
        (multipart("alternative", PLAIN, CALENDAR), {"text_body": TEXTS[:1], "file_attachments": ["text/calendar"]}),
        (
            multipart("alternative", PLAIN, "Content-Type: text/x-amp-html\r\n\r\namp", HTML),
            {"text_body": TEXTS, "file_attachments": ["text/x-amp-html"]},
        ),
        (
            multipart("alternative", PLAIN, "Content-Type: text/html; name=mail.html\r\n\r\n<p>"),
            {"text_body": TEXTS},
        ),
        # Apple Mail: files between the pieces of the text
        (
            multipart("alternative", PLAIN, multipart("mixed", HTML, FILE, HTML, boundary="mix")),
            {"text_body": ["text/plain", "text/html", "text/html"], "file_attachments": ["a/b"]},
        ),
        (
            multipart("mixed", PLAIN, "Content-Type: image/jpeg\r\nContent-Disposition: inline\r\n\r\njpg", PLAIN),
            {"text_body": ["text/plain", "text/plain"], "file_attachments": ["image/jpeg"]},
        ),
        # a mailing list's footer around everything
        (
            multipart("mixed", multipart("mixed", ALTERNATIVE, FILE, boundary="mix"), FOOTER),
            {"text_body": [*TEXTS, "text/plain"], "file_attachments": ["a/b"]},
        ),
        (
            multipart("mixed", multipart("signed", PLAIN, SIGNATURE, boundary="sig"), FOOTER),
            {"text_body": ["text/plain", "text/plain"], "file_attachments": ["application/pgp-signature"]},
        ),
        (
            multipart("signed", multipart("mixed", PLAIN, FILE, boundary="mix"), SIGNATURE),
            {"text_body": ["text/plain"], "file_attachments": ["a/b", "application/pgp-signature"]},
        ),
        (
            multipart("encrypted", "Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1", FILE),
            {"file_attachments": ["application/pgp-encrypted", "a/b"]},
        ),
        # a file before the text, and texts that are files
        (multipart("mixed", FILE, PLAIN), {"text_body": ["text/plain"], "file_attachments": ["a/b"]}),
        (
            multipart("mixed", PLAIN, "Content-Type: text/plain; name=log.txt\r\n\r\nlog"),
            {"text_body": ["text/plain"], "file_attachments": ["text/plain"]},
        ),
        (
            multipart("mixed", HTML, "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nlog"),
            {"text_body": ["text/html"], "file_attachments": ["text/plain"]},
        ),
        # related parts: the root is not the first, files among pictures, pictures a level down
        (
            multipart("related", PICTURE, HTML),
            {"text_body": ["text/html"], "related_attachments": ["image/png"]},
        ),
        (
            multipart("related", PICTURE, ALTERNATIVE),
            {"text_body": TEXTS, "related_attachments": ["image/png"]},
        ),
        (
            multipart("related", "Content-ID: <1@x>\r\n" + HTML, "Content-ID: <2@x>\r\n" + PLAIN).replace(
                "related;", "related; start=2@x;"
            ),
            {"text_body": ["text/plain"], "related_attachments": ["text/html"]},
        ),
        (
            multipart("related", HTML, PICTURE, FILE),
            {"text_body": ["text/html"], "related_attachments": ["image/png"], "file_attachments": ["a/b"]},
        ),
        (
            multipart("related", HTML, multipart("mixed", PICTURE, PICTURE, boundary="mix")),
            {"text_body": ["text/html"], "related_attachments": ["image/png", "image/png"]},
        ),
        (
            multipart("related", multipart("mixed", HTML, FILE, boundary="mix"), PICTURE),
            {"text_body": ["text/html"], "related_attachments": ["image/png"], "file_attachments": ["a/b"]},
        ),
        # reports and digests
        (
            multipart("report", PLAIN, "Content-Type: message/delivery-status\r\n\r\nStatus: 5.0.0\r\n", MESSAGE),
            {"text_body": ["text/plain"], "file_attachments": ["message/delivery-status", "message/rfc822"]},
        ),
        (
            multipart("report", ALTERNATIVE, "Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n"),
            {"text_body": TEXTS, "file_attachments": ["text/rfc822-headers"]},
        ),
        (
            multipart("report", PLAIN, "Content-Type: message/disposition-notification\r\n\r\nDisposition: x"),
            {"text_body": ["text/plain"], "file_attachments": ["message/disposition-notification"]},
        ),
        (
            multipart("digest", "\r\nSubject: 1\r\n\r\none", "\r\nSubject: 2\r\n\r\ntwo"),
            {"file_attachments": ["message/rfc822", "message/rfc822"]},
        ),
        # nothing at all
        (multipart("mixed"), {}),
        (multipart("related"), {}),
        (multipart("alternative"), {}),
        (multipart("signed"), {}),
        ("Content-Type: multipart/mixed\r\n\r\n", {}),
        # multiparts that are none: what they hold is kept
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\nno parts", {"file_attachments": ["multipart/mixed"]}),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\ntext\r\n--b--", {"file_attachments": ["multipart/mixed"]}),
        ("Content-Type: multipart/mixed\r\n\r\nno boundary", {"file_attachments": ["multipart/mixed"]}),
    ],
)  # fmt: skip
def test_flat_lists(data: str, expected: dict[str, list[str]]) -> None:
    assert types(data) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ('Content-Disposition: attachment; filename="f"\r\nContent-ID: <x>', {"filename": "f", "content_id": "<x>"}),
        ("Content-ID: <x>\r\nContent-Disposition: attachment; filename=f", {"filename": "f", "content_id": "<x>"}),
        ("Content-Disposition: inline; filename=f\r\nContent-ID: <x>", {"filename": "f", "content_id": "<x>"}),
        ("Content-Disposition: attachment\r\nContent-ID: x@y", {"content_id": "<x@y>"}),
        ('X-Type: c\r\nContent-Disposition: attachment; filename="two  spaces.pdf"', {"filename": "two  spaces.pdf"}),
        ("X-Other: y", {}),
        ("Content-ID: ", {}),
    ],
)
def test_what_names_a_flat_part(head: str, expected: dict[str, str]) -> None:
    document = document_of(multipart("mixed", PLAIN, f"Content-Type: a/b\r\n{head}\r\n\r\nx"))
    assert document["file_attachments"] == [{"content_type": "a/b", "content": {"create_id": "0"}, **expected}]


@pytest.mark.parametrize(
    ("head", "filename"),
    [
        # only the type has it: old Outlook, fax gateways
        ('Content-Type: application/pdf;\r\n\tname="report.pdf"', "report.pdf"),
        # both, and the disposition counts
        ('Content-Type: a/b; name="a.dat"\r\nContent-Disposition: inline; filename="b.dat"', "b.dat"),
        ('Content-Disposition: attachment; filename=""\r\nContent-Type: a/b; name="a.dat"', "a.dat"),
        # encoded words in quotes: Outlook, Gmail, PHP
        ('Content-Type: a/b;\r\n name="=?UTF-8?B?UmVjaG51bmcgw4QucGRm?="', "Rechnung Ä.pdf"),
        (
            'Content-Type: a/b\r\nContent-Disposition: attachment;\r\n filename="=?iso-8859-1?Q?Angebot_f=FCr?=\r\n'
            '\t=?iso-8859-1?Q?_M=FCller=2Epdf?="',
            "Angebot für Müller.pdf",
        ),
        # sections: Thunderbird, Apple Mail
        (
            "Content-Type: a/b\r\nContent-Disposition: attachment;\r\n filename*0*=utf-8''%47%72%C3;\r\n"
            ' filename*1*=%BC%C3%9F;\r\n filename*2="e.pdf"',
            "Grüße.pdf",
        ),
        # a plain name for old readers beside the true one: Gmail, Java
        (
            "Content-Type: a/b\r\nContent-Disposition: attachment; filename=\"EUR.pdf\"; filename*=UTF-8''%E2%82%AC.pdf",
            "€.pdf",
        ),
        # not quoted at all
        ("Content-Type: a/b\r\nContent-Disposition: attachment; filename=Invoice (2).pdf", "Invoice (2).pdf"),
        ("Content-Type: a/b; name==?utf-8?B?dGVzdC50eHQ=?=", "test.txt"),
    ],
)
def test_file_names(head: str, filename: str) -> None:
    (part,) = document_of(f"{head}\r\n\r\nx")["file_attachments"]
    assert part["filename"] == filename


def test_flat_parts_share_the_content_of_the_tree() -> None:
    document = document_of(multipart("mixed", PLAIN, FILE))
    tree = document["parts"]["parts"]
    assert document["text_body"][0]["content"] is tree[0]["content"]
    assert document["file_attachments"][0]["content"] is tree[1]["content"]


async def test_files_that_are_containers_are_there_with_all_their_bytes() -> None:
    inner = "Subject: gr\xfc\xdfe\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nx\r\n--i--\r\n"
    status = "Reporting-MTA: dns; a.example\r\n\r\nFinal-Recipient: rfc822; b@c.example\r\n"
    data = multipart(
        "report",
        PLAIN,
        f"Content-Type: message/delivery-status\r\n\r\n{status}",
        f"Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n{inner}",
        "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0K",
    )
    assert await contents(data) == {"text_body": ["plain"], "file_attachments": [status, inner, "Subject: x\r\n"]}


def test_ids_of_files_that_are_containers_come_behind_all_others() -> None:
    document = document_of(multipart("mixed", PLAIN, MESSAGE, FILE))
    assert [part["content"] for part in document["file_attachments"]] == [{"create_id": "1"}, {"create_id": "0"}]


async def test_what_is_beyond_the_number_of_parts_belongs_to_the_last_one() -> None:
    parts = [f"Content-Type: a/b\r\n\r\n{i}" for i in range(MAX_PARTS + 5)]
    found = (await contents(multipart("mixed", *parts)))["file_attachments"]
    assert found[:-1] == [str(i) for i in range(MAX_PARTS - 1)]
    assert all(f"\r\n{i}\r\n" in found[-1] for i in range(MAX_PARTS, MAX_PARTS + 5))
    nested = multipart("mixed", *parts[: MAX_PARTS - 1], boundary="inner")
    found = (await contents(multipart("mixed", nested, FILE, FILE)))["file_attachments"]
    assert len(found) == MAX_PARTS
    assert found[-1].count("file\r\n") == 2
    message = MESSAGE.replace("inner", "a forwarded message")
    found = (await contents(multipart("mixed", *parts[: MAX_PARTS - 1], message)))["file_attachments"]
    assert "a forwarded message" in found[-1]


# --- no content is lost -----------------------------------------------------------------------------------------------------

HEADS = st.sampled_from(
    [
        "Content-Type: text/plain", "Content-Type: text/html", "Content-Type: text/calendar", "Content-Type: image/png",
        "Content-Type: text/plain; name=a.txt", "X-None: 1", "Content-Type: application/pdf; name=a.pdf",
        "Content-Type: text/html\r\nContent-ID: <1@x>", "Content-Type: image/gif\r\nContent-ID: <2@x>",
        "Content-Type: text/plain\r\nContent-Disposition: attachment", "Content-Type: text/rfc822-headers",
        "Content-Type: a/b\r\nContent-Disposition: inline; filename=x", "Content-Type: application/pgp-signature",
        "Content-Type: multipart/mixed",
    ]
)  # fmt: skip
SUBTYPES = st.sampled_from(["mixed", "alternative", "related", "signed", "report", "digest", "x-unknown"])
Tree = Any
TREES: st.SearchStrategy[Tree] = st.recursive(
    HEADS,
    lambda trees: st.tuples(SUBTYPES, st.lists(trees, min_size=1, max_size=4)) | st.tuples(st.just("message"), trees),
    max_leaves=12,
)


class _Writer:
    """Writes a tree as a message; each leaf has a content of its own."""

    def __init__(self) -> None:
        self.leaves = 0
        self.depth = 0

    def write(self, tree: Tree) -> str:
        if isinstance(tree, str):
            self.leaves += 1
            return f"{tree}\r\n\r\nX-Leaf: leaf{self.leaves}."
        self.depth += 1
        kind, below = tree
        if kind == "message":
            return f"Content-Type: message/rfc822\r\n\r\n{self.write(below)}"
        boundary = f"b{self.depth}"
        return multipart(kind, *(self.write(child) for child in below), boundary=boundary)


@given(TREES)
async def test_every_leaf_is_in_one_list_once(tree: Tree) -> None:
    writer = _Writer()
    data = writer.write(tree)
    found = [content for part_list in (await contents(data)).values() for content in part_list]
    for i in range(1, writer.leaves + 1):
        assert sum(content.count(f"leaf{i}.") for content in found) == 1


# --- beside Python's email package ------------------------------------------------------------------------------------------


@given(TREES)
def test_pythons_email_package_finds_the_same_leaves(tree: Tree) -> None:
    data = _Writer().write(tree).encode()
    theirs = email.message_from_bytes(data, policy=policy.SMTP)
    assert sorted(_flat_types(data)) == sorted(_leaf_types(theirs))


def test_messages_that_python_is_tested_with() -> None:
    """Where Python comes without its tests there are none, and the generated ones above have to do."""
    for data in _python_messages():
        theirs = email.message_from_bytes(data, policy=policy.SMTP)
        assert len(_flat_types(data)) >= len(list(_leaf_types(theirs)))


def _flat_types(data: bytes) -> list[str]:
    return [content_type for part_list in types(data).values() for content_type in part_list]


def _leaf_types(message: Message | EmailMessage) -> Iterator[str]:
    """Types of what is no multipart; attached messages are not opened. A multipart of nothing is none."""
    payload: Any = message.get_payload()
    if message.get_content_maintype() != "multipart":
        yield message.get_content_type()
    elif isinstance(payload, list):
        for child in payload:
            yield from _leaf_types(child)
    elif payload:
        yield message.get_content_type()


def _python_messages() -> Iterator[bytes]:
    if importlib.util.find_spec("test") and (spec := importlib.util.find_spec("test.test_email")) and spec.origin:
        for path in sorted(Path(spec.origin).parent.glob("data/msg_*.txt")):
            yield path.read_bytes()
