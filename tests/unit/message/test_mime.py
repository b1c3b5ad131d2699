from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.message.mime import Part, Splitter

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
MIXED = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"


class Recorder(Splitter):
    """Keeps the contents that it is given."""

    def __init__(self, **bounds: int) -> None:
        super().__init__(**bounds)
        self.contents: dict[Part, bytes] = {}

    def content(self, part: Part, data: bytes) -> None:
        self.contents[part] = self.contents.get(part, b"") + data


def split(data: bytes, size: int | None = None, **bounds: int) -> Part:
    splitter = Recorder(**bounds)
    for i in range(0, len(data), size or len(data) or 1):
        splitter.feed(data[i : i + (size or len(data))])
    root = splitter.finish()
    for part, content in splitter.contents.items():
        assert content[: part.end - part.start] == data[part.start : part.end]
        assert content[part.end - part.start :].strip(b"\r\n") == b""
    return root


def tree(part: Part, data: bytes) -> Any:
    if part.children:
        return part.content_type.value, [tree(child, data) for child in part.children]
    # Where a multipart is not closed, Python takes the last line end for that of a delimiter.
    return part.content_type.value, data[part.start : part.end].rstrip(b"\r\n")


def pythons_tree(part: EmailMessage) -> Any:
    content = part.get_payload()
    if isinstance(content, list):
        return part.get_content_type(), [pythons_tree(child) for child in content]
    return part.get_content_type(), str(content).encode("utf-8", "surrogateescape").rstrip(b"\r\n")


def by_python(data: bytes) -> Any:
    return pythons_tree(message_from_bytes(data, policy=policy.SMTP))


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.msg")), ids=lambda path: path.stem)
def test_messages_are_split_as_python_does(path: Path) -> None:
    data = path.read_bytes()
    assert tree(split(data), data) == by_python(data)


@pytest.mark.parametrize(
    "data",
    [
        MIXED + b"preamble\r\n--a\r\n\r\none\r\n--a \t\r\nX: y\r\n\r\ntwo\r\n\r\n--a--\r\nepilogue\r\n--a\r\n",
        MIXED + b"--a\r\n--a\r\n\r\none\r\n--ab\r\n--a\r\n\r\n\r\n--a--",
        MIXED.replace(b"=a", b'="a b"') + b"--a b\r\n\r\none\r\n--a b--\r\n",
        MIXED.replace(b"\r\n", b"\n") + b"--a\n\none\n--a--\n",
        MIXED.replace(b"\r\n", b"\r") + b"--a\r\rone\r--a--\r",
        MIXED + b"--a\r\nContent-Type: message/rfc822\r\n\r\n" + MIXED.replace(b"=a", b"=c") + b"--c\r\n\r\nx\r\n--a--",
        MIXED.replace(b"mixed", b"digest") + b"--a\r\n\r\nSubject: x\r\n\r\nbody\r\n--a--\r\n",
        b"Content-Type: message/delivery-status\r\n\r\nA: b\r\n\r\nC: d\r\nE: f\r\n",
        MIXED + b"--a\r\nno header\r\n\r\nbody\r\n--a--\r\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n--a\r\n\r\none\r\n--a--\r\n",
        b"Subject: only headers\r\n",
        b"\r\nonly a body\r\n",
        b"",
    ],
)
def test_structures(data: bytes) -> None:
    assert tree(split(data), data) == by_python(data)


def test_what_is_wrong_is_noted_at_the_part() -> None:
    inner = b"Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\nx\r\n"
    root = split(MIXED + b"--a\r\n" + inner + b"--a\r\nContent-Type: multipart/mixed\r\n\r\n--a--\r\n")
    assert [part.defects for part in root.walk()] == [
        [],
        ["a multipart without closing delimiter"],
        [],
        ["a multipart without boundary"],
    ]
    assert split(MIXED + b"nothing\r\n").defects == ["a multipart without parts"]
    assert split(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==").defects == [
        "a container must not be encoded"
    ]


def test_bounds() -> None:
    splitter = Splitter(max_parts=3)
    splitter.feed(MIXED + b"--a\r\n\r\nx\r\n" * 5 + b"--a--\r\n")
    assert len(splitter.finish().children) == 3
    assert splitter.exceeded == "more parts than can be"
    nested = split(b"Content-Type: message/rfc822\r\n\r\n" * 9, max_depth=4)
    assert max(part.depth for part in nested.walk()) == 4
    assert list(nested.walk())[-1].defects == ["nested too deeply"]


LINES = st.sampled_from(
    [
        *(b"Content-Type: multipart/mixed; boundary=a\r\n", b"Content-Type: multipart/digest; boundary=c\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Type: message/delivery-status\r\n", b"\r\n", b"\n", b"\r"),
        *(b"--a\r\n", b"--c\r\n", b"--a--\r\n", b"--c-- \r\n", b"text\r\n", b"--text\r\n", b"X: y\r\n", b"--a\r"),
        b"x" * 999,
    ]
)


@given(st.lists(LINES, max_size=25).map(b"".join), st.integers(1, 40))
def test_pieces_make_no_difference(data: bytes, size: int) -> None:
    def all_of(root: Part) -> list[tuple[object, ...]]:
        return [(p.depth, p.start, p.end, p.content_type.value, p.defects) for p in root.walk()]

    assert all_of(split(data, size)) == all_of(split(data))


@given(st.binary(max_size=2000))
def test_any_bytes_have_parts(data: bytes) -> None:
    for part in split(MIXED + data).walk():
        assert 0 <= part.start <= part.end <= len(MIXED + data)
