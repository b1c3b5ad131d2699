import binascii
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koukan.blob.bodies import BytesBody
from koukan.message.parser import MAX_DEPTH, MAX_PARTS, MessageParser, ParsedMessage

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
PNG = bytes.fromhex("89504e470d0a1a0a")


def parse(data: bytes | str, *, max_inline: int = 1000, piece: int = 65536) -> ParsedMessage:
    data = data.encode() if isinstance(data, str) else data
    parser = MessageParser(max_inline=max_inline)
    for offset in range(0, len(data), piece):
        parser.feed(data[offset : offset + piece])
    return parser.result(BytesBody(data))


async def read_blobs(parsed: ParsedMessage) -> dict[str, bytes]:
    try:
        return {name: await blob.read() for name, blob in parsed.blobs.items()}
    finally:
        parsed.close()


def part(data: bytes | str, **options: Any) -> Any:
    """The root of a message."""
    parsed = parse(data, **options)
    parsed.close()
    return parsed.document["parts"]


def header(line: bytes | str) -> Any:
    """The value of the only header field."""
    line = line.encode() if isinstance(line, str) else line
    return part(line + b"\r\n\r\n")["headers"][0][1]


def multipart(subtype: str, *parts: str, boundary: str = "b") -> str:
    body = "".join(f"--{boundary}\r\n{p}\r\n" for p in parts)
    return f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n{body}--{boundary}--\r\n'


PLAIN = "Content-Type: text/plain\r\n\r\nplain"
HTML = "Content-Type: text/html\r\n\r\n<p>"


# --- whole messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [path.stem for path in sorted(MESSAGES.glob("*.json"))])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_documents(name: str, line_end: bytes, piece: int) -> None:
    data = (MESSAGES / f"{name}.msg").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)
    expected = json.loads((MESSAGES / f"{name}.json").read_text())
    parsed = parse(data, piece=piece)
    parsed.close()
    assert parsed.document == expected


async def test_blobs_of_the_multipart_message() -> None:
    parsed = parse((MESSAGES / "multipart.msg").read_bytes())
    blobs = await read_blobs(parsed)
    assert list(blobs) == ["0", "1"]
    assert all(content.startswith(PNG) for content in blobs.values())


# bad_multipart never ends: whether the last line end belongs to what would have ended it, is a matter of taste.
@pytest.mark.parametrize("name", sorted(path.stem for path in MESSAGES.glob("*.msg") if path.stem != "bad_multipart"))
async def test_structure_and_contents_are_those_of_pythons_email_package(name: str) -> None:
    data = MESSAGES.joinpath(f"{name}.msg").read_bytes()
    parsed = parse(data, max_inline=0)
    theirs = message_from_bytes(data, policy=policy.SMTP)
    await _compare(parsed.document["parts"], theirs, await read_blobs(parsed))


async def _compare(ours: Any, theirs: EmailMessage, blobs: dict[str, bytes]) -> None:
    assert ours["content_type"] == theirs.get_content_type()
    assert [name for name, _ in ours["headers"]] == [name.lower() for name in theirs]
    if ours["content_type"] == "text/rfc822-headers":
        return
    if theirs.is_multipart():
        children: Any = theirs.get_payload()
        assert len(ours["parts"]) == len(children)
        for our_child, their_child in zip(ours["parts"], children, strict=True):
            await _compare(our_child, their_child, blobs)
        return
    content = blobs[ours["content"]["create_id"]]
    payload: Any = theirs.get_payload(decode=True)
    if theirs.get_content_maintype() == "text":
        payload = payload.decode(theirs.get_content_charset("utf-8"), "replace").replace("\r\n", "\n").encode()
    assert content == payload


# --- header fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("Subject: hello", "hello"),
        ("Subject: a\r\n b\r\n\tc", "a b\tc"),
        ("SUBJECT: =?utf-8?q?gr=C3=BC=C3=9Fe?=", "grüße"),
        ("Subject: =?iso-8859-1?q?gr=FC?= =?iso-8859-1?q?=DFe?=", "grüße"),
        ("Subject: =?x-nobody-knows?q?abc?=", "abc"),
        ("Subject: grüße", "grüße"),
        (b"Subject: gr\xfc\xdfe", "gr\ufffd\ufffde"),
        ("References: <a@b>\r\n <c@d>", "a@b c@d"),
        ("In-Reply-To: <a@b>", "a@b"),
        ("Reply-To: Ann <ann@example.com>", [{"display_name": "Ann", "address": "ann@example.com"}]),
        ("References: <a@b><c@d>,\r\n\t<e@f> (why)", "a@b c@d e@f"),
        ('In-Reply-To: Your message of "Mon, 1 Jan" <a@b>', "a@b"),
        ("Resent-Message-ID: <a@b>", "a@b"),
        ("Content-ID: <logo@x>", "<logo@x>"),
        ("Subject : x", "x"),
        (b"Subject: =?iso-8859-1?Q?gr\xfc=DFe?= \xff", "grüße \ufffd"),
        (b"From: =?iso-8859-1?Q?J\xf6rg?= <j@b.c>", [{"display_name": "Jörg", "address": "j@b.c"}]),
        (b"To: <\xff@b.c>", [{"display_name": "", "address": "\ufffd@b.c"}]),
        (b'Content-Type: a/b; name="=?gbk?Q?\xd6\xd0?=.txt"; \xff=1', ["a/b", {"name": "中.txt", "\ufffd": "1"}]),
        (b"Content-Disposition: \xff; filename*=gbk''\xd6%D0", ["\ufffd", {"filename": "中"}]),
        ("Sender: Ann <a@b.c>", [{"display_name": "Ann", "address": "a@b.c"}]),
        ("Resent-To: a@b.c, d@e.f", [
            {"display_name": "", "address": "a@b.c"},
            {"display_name": "", "address": "d@e.f"},
        ]),
        ("Disposition-Notification-To: =?utf-8?q?J=C3=B6rg?= <a@b.c>", [
            {"display_name": "Jörg", "address": "a@b.c"},
        ]),
        # what is in an encoded word is never an address
        ("Reply-To: =?utf-8?q?Sales=2C_evil=40x=2Ey_=3Cevil=40x=2Ey=3E?= <a@b.c>", [
            {"display_name": "Sales, evil@x.y <evil@x.y>", "address": "a@b.c"},
        ]),
        ("Sender: =?utf-8?q?evil=40x=2Ey?=", [{"display_name": "evil@x.y", "address": ""}]),
        ("Resent-Date: Thu, 01 Jan 1970 00:00:00 +0100", {"unix_secs": -3600, "tz_offset": 3600}),
        ("Content-Transfer-Encoding: BASE64", "BASE64"),
        ("Message-ID: <a@b>", "a@b"),
        ("Message-ID: a@b", "a@b"),
        ("Message-ID: (an) <a@b> (id)", "a@b"),
        ("Message-ID: <a@b> (open", "a@b"),
        ("From: Ann <ann@example.com>", [{"display_name": "Ann", "address": "ann@example.com"}]),
        ("To: =?utf-8?q?J=C3=B6rg?= <j@b.c>, x@y.z", [
            {"display_name": "Jörg", "address": "j@b.c"},
            {"display_name": "", "address": "x@y.z"},
        ]),
        ("Cc: Team: a@b.c, Bo <d@e.f>;, g@h.i", [
            {"display_name": "", "address": "a@b.c"},
            {"display_name": "Bo", "address": "d@e.f"},
            {"display_name": "", "address": "g@h.i"},
        ]),
        ("To: undisclosed-recipients:;", []),
        ("Bcc:", []),
        ("To: jörg@bücher.example", [{"display_name": "", "address": "jörg@bücher.example"}]),
        ("Date: Wed, 06 Mar 2024 10:42:31 -0800", {"unix_secs": 1709750551, "tz_offset": -28800}),
        ("Date: Wed, 06 Mar 2024 10:42:31 -0800 (PST)", {"unix_secs": 1709750551, "tz_offset": -28800}),
        ("Date: 6 Mar 24 18:42 GMT", {"unix_secs": 1709750520, "tz_offset": 0}),
        ("Date: Wed, 06 Mar 2024 18:42:31", {"unix_secs": 1709750551, "tz_offset": 0}),
        ("Date: Wed, 06 Mar 2024 18:42:31 -0000", {"unix_secs": 1709750551, "tz_offset": 0}),
        ("Date: Sat, 31 Dec 2016 23:59:60 +0000", {"unix_secs": 1483228799, "tz_offset": 0}),
        ("Date: Thu, 01 Jan 1970 00:00:00 +0100", {"unix_secs": -3600, "tz_offset": 3600}),
        ("Date: tomorrow", "tomorrow"),
        ("Date: Wed, 99 Mar 2024 18:42:31 +0000", "Wed, 99 Mar 2024 18:42:31 +0000"),
        ("Date: Wed, 06 Mar 2024 18:42:31 +9999", "Wed, 06 Mar 2024 18:42:31 +9999"),
        ("Date: Wed, 06 Mar 99999999999 18:42:31 +0000", "Wed, 06 Mar 99999999999 18:42:31 +0000"),
        ("Date: ", ""),
        ("Date: " + "1 " * 500, ("1 " * 500).strip()),
        ("Content-Type: Text/HTML; charset=UTF-8; X=y", ["text/html", {"charset": "UTF-8", "x": "y"}]),
        ("Content-Type: nonsense", ["text/plain", {}]),
        ("Content-Disposition: ATTACHMENT; filename*=utf-8''r%C3%A9.pdf", ["attachment", {"filename": "ré.pdf"}]),
        ("Content-Disposition: inline", ["inline", {}]),
    ],
)  # fmt: skip
def test_header_values(line: bytes | str, value: Any) -> None:
    assert header(line) == value


def test_headers_keep_order_and_duplicates() -> None:
    found = part("Received: 1\r\nX-A: a\r\nRECEIVED: 2\r\n\r\n")["headers"]
    assert found == [["received", "1"], ["x-a", "a"], ["received", "2"]]


def test_structured_fields_beyond_the_bound_stay_text() -> None:
    found = part("".join(f"To: {'a@b.c, ' * 5000}\r\n" for _ in range(8)) + "\r\n")["headers"]
    kinds = [type(value) for _, value in found]
    assert kinds == [list] * 3 + [str] * 5


def test_structured_fields_beyond_the_bound_stay_encoded() -> None:
    name = "=?utf-8?q?x=2C_evil=40x=2Ey?="
    ((_, value),) = part(f"To: {name} <a@b.c>, {'a@b.c, ' * 25_000}\r\n\r\n")["headers"]
    assert value.startswith(f"{name} <a@b.c>, a@b.c, ")


# --- contents ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "content", "text"),
    [
        ("", "hello\r\nworld\r\n", "hello\nworld\n"),
        ("", "a\rb\nc\r\n", "a\nb\nc\n"),
        ("Content-Type: text/plain; charset=utf-8", "grüße", "grüße"),
        ("Content-Type: text/plain; charset=iso-8859-1", b"gr\xfc\xdfe", "grüße"),
        ("Content-Type: text/plain; charset=us-ascii", b"gr\xfc\xdfe", "grüße"),
        ("Content-Type: text/plain; charset=x-nobody-knows", "grüße", "grüße"),
        ("Content-Type: text/plain; charset=base64_codec", "aGk=", "aGk="),
        ("Content-Type: text/plain; charset=iso-2022-jp", "日本".encode("iso-2022-jp"), "日本"),
        (
            "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64",
            "Z3LD\r\nvMOf\r\nZQ==",
            "grüße",
        ),
        ("Content-Transfer-Encoding: base64", "aGkNCg0\r\n", "hi\n\n"),
        ("Content-Transfer-Encoding: Base64 ", "aGk=\r\n-- \r\nan added footer\r\n", "hi"),
        ("Content-Transfer-Encoding: base64", "a*G!k=", "hi"),
        ("Content-Transfer-Encoding: base64", "a", ""),
        ("Content-Transfer-Encoding: quoted-printable", "gr=C3=BC=\r\n=C3=9Fe=0D=0A=XY", "grüße\n=XY"),
        ("Content-Transfer-Encoding: quoted-printable", "a=", "a"),
        # padding at the ends of lines
        ("Content-Transfer-Encoding: quoted-printable", "a= \t\r\nb  \r\nc=  ", "ab\nc"),
        ("Content-Transfer-Encoding: quoted-printable", "a=20 \nb\t\n", "a \nb\n"),
        ('Content-Transfer-Encoding: "base64"', "aGk=", "hi"),
        ("Content-Transfer-Encoding: base64 (as ever)", "aGk=", "hi"),
        ("Content-Transfer-Encoding: x-uuencode", "\r\nbegin 644 a.txt\r\n#86)C\r\n`\r\nend\r\nfooter\r\n", "abc"),
        ("Content-Transfer-Encoding: uuencode", "begin 0644 a b.txt\n%:&5L;&\\ \n \nend", "hello"),
        ("Content-Transfer-Encoding: X-UUE", "begin 644 a\n#86)CDD\nM\n\x7f\xff\n#86)C", "abcabc"),
        ("Content-Transfer-Encoding: x-uuencode", "no file at all", "no file at all"),
        ("Content-Transfer-Encoding: x-uuencode", "begin 644 a\n!(\n#86)C", " abc"),
        ("Content-Transfer-Encoding: x-unknown", "as it is", "as it is"),
        # smaller encodings are said, larger ones are meant
        ("Content-Type: text/plain; charset=iso-8859-1", b"\x93euro\x94 \x80", "\u201ceuro\u201d €"),
        ("Content-Type: text/plain; charset=us-ascii", "grüße".encode() + b" \xfc", "grüße ü"),
        ("", b"gr\xfc\xdfe", "grüße"),
        ("Content-Type: text/plain; charset=gb2312", "镕€".encode("gbk", "ignore") + b"\x81\x30\x81\x30", "镕\x80"),
        ("Content-Type: text/plain; charset=ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("Content-Type: text/plain; charset=shift_jis", b"\x87\x40\xfa\x40", "①ⅰ"),
        ("Content-Type: text/plain; charset=euc-jp", b"\xad\xa1\xa4\xa2\xff\xf9\xa1", "①あ\ufffd纊"),
        ("Content-Type: text/plain; charset=iso-2022-jp", b'\x1b$B-!$"|q\x1b(B \xb1', "①あⅰ ｱ"),
        ("Content-Type: text/plain; charset=iso-2022-jp", b"\x1b(I12\x1b(B\x1b$B~~\x1b(B", "ｱｲ\ufffd"),
        ("Content-Type: text/plain; charset=big5", b"\xa4\x40\x87\x40\xf9\xd6\xff", "一䏰碁\ufffd"),
        ("Content-Type: text/plain; charset=cp-850", b"\x81", "ü"),
    ],
)
@pytest.mark.parametrize("piece", [1, 65536])
def test_text(head: str, content: bytes | str, text: str, piece: int) -> None:
    content = content.encode() if isinstance(content, str) else content
    data = head.encode() + b"\r\n" * (2 if head else 1) + content
    assert part(data, piece=piece)["content"] == {"inline": text}


async def test_other_types_are_blobs_whatever_their_size() -> None:
    parsed = parse("Content-Type: application/x; charset=latin1\r\nContent-Transfer-Encoding: base64\r\n\r\n//8NCg0=")
    assert parsed.document["parts"]["content"] == {"create_id": "0"}
    assert await read_blobs(parsed) == {"0": b"\xff\xff\r\n\r"}
    assert parsed.document["file_attachments"] == [{"content_type": "application/x", "content": {"create_id": "0"}}]


async def test_text_is_inline_while_its_sum_stays_below_the_limit() -> None:
    texts = ["a" * 4, "é" * 2, "b", "", "c" * 20]
    data = multipart("mixed", *(f"\r\n{text}" for text in texts))
    parsed = parse(data, max_inline=9)
    contents = [child["content"] for child in parsed.document["parts"]["parts"]]
    assert contents == [{"inline": "aaaa"}, {"inline": "éé"}, {"create_id": "0"}, {"inline": ""}, {"create_id": "1"}]
    assert await read_blobs(parsed) == {"0": b"b", "1": b"c" * 20}


@pytest.mark.parametrize(("limit", "inline"), [(5, True), (4, False), (0, False)])
def test_the_limit_itself_is_too_much(limit: int, inline: bool) -> None:
    assert ("inline" in part("\r\nabcd", max_inline=limit)["content"]) is inline
    assert ("inline" in part("\r\n", max_inline=limit)["content"]) is (limit > 0)


async def test_large_text_is_a_blob_in_utf8_with_lf() -> None:
    content = "grüße\r\n" * 50_000
    data = f"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n{content}".encode("iso-8859-1")
    parsed = parse(data, max_inline=65536, piece=999)
    assert (await read_blobs(parsed))["0"] == content.replace("\r\n", "\n").encode()


async def test_uuencoded_content_may_be_none() -> None:
    content = b"a line that is no beginning of a file\r\n" * 500
    parsed = parse(b"Content-Type: a/b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + content, piece=99)
    assert await read_blobs(parsed) == {"0": content}


@given(st.binary(max_size=300), st.integers(1, 80))
async def test_uuencoded_files_come_back(data: bytes, piece: int) -> None:
    lines = b"".join(binascii.b2a_uu(data[i : i + 45]) for i in range(0, len(data), 45))
    head = b"Content-Type: a/b\r\nContent-Transfer-Encoding: uuencode\r\n\r\n"
    parsed = parse(head + b"begin 644 file.bin\n" + lines + b"`\nend\n", piece=piece)
    assert await read_blobs(parsed) == {"0": data}


async def test_ids_run_depth_first() -> None:
    inner = multipart("mixed", "Content-Type: a/one\r\n\r\n1", "Content-Type: a/two\r\n\r\n2", boundary="inner")
    parsed = parse(multipart("mixed", "Content-Type: a/zero\r\n\r\n0", inner, "Content-Type: a/three\r\n\r\n3"))
    assert await read_blobs(parsed) == {"0": b"0", "1": b"1", "2": b"2", "3": b"3"}


async def test_the_line_end_before_a_delimiter_is_not_content() -> None:
    for line_end in ("\r\n", "\n"):
        data = multipart("mixed", "Content-Type: a/b\r\n\r\nx\r\n").replace("\r\n", line_end)
        assert await read_blobs(parse(data)) == {"0": b"x" + line_end.encode()}


# --- what is broken ---------------------------------------------------------------------------------------------------------


def test_multiparts_that_are_none() -> None:
    assert part("Content-Type: multipart/mixed; boundary=b\r\n\r\nno parts at all")["parts"] == []
    found = part("Content-Type: multipart/mixed\r\n\r\nwithout boundary")
    assert (found["content_type"], found["content"]) == ("multipart/mixed", {"create_id": "0"})


def test_an_open_end_is_as_good_as_a_delimiter() -> None:
    found = part(multipart("mixed", PLAIN, HTML).replace("--b--\r\n", ""))
    assert [child["content"]["inline"] for child in found["parts"]] == ["plain", "<p>\n"]


async def test_an_encoded_message_is_a_file() -> None:
    """What the existing builder makes of attached messages (RFC 2046 §5.2.1 forbids it)."""
    parsed = parse("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0KDQp5")
    assert await read_blobs(parsed) == {"0": b"Subject: x\r\n\r\ny"}


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 100])
async def test_nesting_is_bounded(depth: int) -> None:
    data = PLAIN
    for level in range(depth):
        data = multipart("mixed", data, boundary=f"b{level}")
    parsed = parse(data)
    found, levels = parsed.document["parts"], 0
    while "parts" in found:
        found, levels = found["parts"][0], levels + 1
    blobs = await read_blobs(parsed)
    assert levels == min(depth, MAX_DEPTH)
    if depth <= MAX_DEPTH:
        assert found["content"] == {"inline": "plain"}
    else:
        assert (found["content_type"], found["content"]) == ("multipart/mixed", {"create_id": "0"})
        assert blobs["0"].endswith(b"--\r\n")


async def test_the_number_of_parts_is_bounded() -> None:
    parsed = parse(multipart("mixed", *(["Content-Type: a/b\r\n\r\nx"] * (MAX_PARTS + 5))))
    parts = parsed.document["parts"]["parts"]
    blobs = await read_blobs(parsed)
    assert MAX_PARTS - 1 <= len(parts) <= MAX_PARTS
    assert len(blobs) == len(parts)


@given(st.binary(max_size=500), st.integers(1, 100), st.integers(0, 20))
async def test_any_bytes_are_a_message(data: bytes, piece: int, limit: int) -> None:
    parsed = parse(data, piece=piece, max_inline=limit)
    json.dumps(parsed.document, ensure_ascii=False).encode()
    await read_blobs(parsed)


FRAGMENTS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"--b", b"--b--", b"--c", b"--", b"x", b"\xff", b"\x00", b"=?utf-8?q?a?=", b"=", b" ", b";",
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/related; boundary=c\r\n",
        b"Content-Type: multipart/alternative; boundary=b\n", b"Content-Type: message/rfc822\r\n",
        b"Content-Type: message/delivery-status\r\n", b"Content-Type: text/rfc822-headers\r\n",
        b"Content-Type: text/html; charset=utf-16\r\n", b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n", b"Date: ", b"To: ", b"From: <", b'"', b"(", b"Message-ID: ",
        b"Content-Disposition: attachment; filename*0*=", b"31 Dec 9999 23:59:60 -2400", b"a@b.c", b"A: b\r\n",
    ]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40).map(b"".join), st.integers(1, 50), st.integers(0, 40))
async def test_broken_mail_is_read_the_same_in_any_pieces(data: bytes, piece: int, limit: int) -> None:
    parsed = parse(data, piece=piece, max_inline=limit)
    whole = parse(data, max_inline=limit)
    assert parsed.document == whole.document
    assert await read_blobs(parsed) == await read_blobs(whole)
    json.dumps(parsed.document, ensure_ascii=False).encode()
