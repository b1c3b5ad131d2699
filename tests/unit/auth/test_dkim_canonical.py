import base64
import hashlib
from itertools import pairwise

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from koukan.auth.dkim.canonical import BodyHash, canonical_field, canonical_header, select_fields
from koukan.message.headers import Field, Headers, parse_headers
from tests.support.cost import at_most


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "canonical"),
    [
        # RFC 6376 §3.4.5
        ("relaxed", b"A", b" X", b"a:X\r\n"),
        ("relaxed", b"B ", b" Y\t\r\n\tZ  ", b"b:Y Z\r\n"),
        ("simple", b"A", b" X", b"A: X\r\n"),
        ("simple", b"B ", b" Y\t\r\n\tZ  ", b"B : Y\t\r\n\tZ  \r\n"),
        ("relaxed", b"Subject", b"", b"subject:\r\n"),
    ],
)
def test_headers(algorithm: str, name: bytes, value: bytes, canonical: bytes) -> None:
    assert canonical_header(name, value, algorithm) == canonical


@pytest.mark.parametrize(("algorithm", "canonical"), [("simple", b"Subject \t: x \r\n"), ("relaxed", b"subject:x\r\n")])
def test_white_space_before_a_colon_is_signed_as_it_stands(algorithm: str, canonical: bytes) -> None:
    (field,) = parse_headers(b"Subject \t: x \r\n")[0]
    assert canonical_field(field, algorithm) == canonical


BODIES = [
    # RFC 6376 §3.4.5
    ("relaxed", b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
    ("simple", b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n"),
    # §3.4.3, §3.4.4: empty bodies, and those without a line end
    ("simple", b"", b"\r\n"),
    ("simple", b"\r\n\r\n", b"\r\n"),
    ("relaxed", b"", b""),
    ("relaxed", b"\r\n\r\n", b""),
    ("relaxed", b" \t \r\n \r\n", b""),
    ("simple", b"text", b"text\r\n"),
    ("relaxed", b"text \t", b"text\r\n"),
    ("simple", b"\r\n\r\ntext\r\n", b"\r\n\r\ntext\r\n"),
    # what is no CRLF is no line end
    ("simple", b"a\n\n", b"a\n\n\r\n"),
    ("simple", b"a\r\r\n\r\n", b"a\r\r\n"),
    ("simple", b"a\n\r\n\r\n", b"a\n\r\n"),
    ("simple", b"a\r", b"a\r\r\n"),
    ("relaxed", b"a \r", b"a \r\r\n"),
    ("relaxed", b"a \nb", b"a \nb\r\n"),
]


def digest(algorithm: str, pieces: list[bytes], limit: int | None = None) -> bytes:
    body_hash = BodyHash(algorithm, limit)
    for piece in pieces:
        body_hash.update(piece)
    return body_hash.digest()


@pytest.mark.parametrize(("algorithm", "body", "canonical"), BODIES)
def test_bodies(algorithm: str, body: bytes, canonical: bytes) -> None:
    assert digest(algorithm, [body]) == hashlib.sha256(canonical).digest()
    assert digest(algorithm, [body[i : i + 1] for i in range(len(body))]) == hashlib.sha256(canonical).digest()


# RFC 6376 §3.4.3 and §3.4.4 print the hashes of empty bodies.
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("simple", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        ("relaxed", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ],
)
def test_empty_bodies(algorithm: str, expected: str) -> None:
    assert base64.b64encode(digest(algorithm, [])).decode() == expected


TEXT = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"bc", b"\r\n\r\n", b"  "]), max_size=30)


@given(TEXT, st.lists(st.integers(0, 60), max_size=5), st.sampled_from(["simple", "relaxed"]))
def test_bodies_agree_with_dkimpy_however_they_are_cut(words: list[bytes], cuts: list[int], algorithm: str) -> None:
    body = b"".join(words)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]
    theirs = Simple if algorithm == "simple" else Relaxed
    # dkimpy keeps white space at the end of a last line that has no line end.
    expected = theirs.canonicalize_body(body if body.endswith(b"\r\n") or not body else body + b"\r\n")
    assert digest(algorithm, pieces) == hashlib.sha256(expected).digest()


@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from(["simple", "relaxed"]))
def test_any_bytes_hash_the_same_in_pieces(body: bytes, cut: int, algorithm: str) -> None:
    assert digest(algorithm, [body[:cut], body[cut:]]) == digest(algorithm, [body])


def test_a_limit_stops_the_hash_and_the_length_goes_on() -> None:
    body_hash = BodyHash("simple", 4)
    body_hash.update(b"abcdef\r\n")
    assert body_hash.digest() == hashlib.sha256(b"abcd").digest()
    assert body_hash.length == 8


@pytest.mark.parametrize("filler", [b" ", b"\t", b" \t", b"\r\n", b" \r\n", b"\n", b"\r"])
def test_time_is_linear(filler: bytes) -> None:
    data = filler * (1024 * 1024 // len(filler))
    with at_most(0.5):
        digest("relaxed", [data, b"x", data])


def test_names_take_fields_from_the_bottom_up() -> None:
    fields = [Field("A", b"1"), Field("a", b"2"), Field("B", b"3")]
    selected = select_fields(("a", "b", "a", "a", "c"), Headers(fields))
    assert [field.value for field in selected] == [b"2", b"3", b"1"]
    assert [field.value for field in select_fields(("a",), Headers(fields), own=fields[1])] == [b"1"]
