"""Header fields that are a value with parameters: Content-Type and Content-Disposition (RFC 2045 §5.1, 2183, 2231)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from koukan.message import charset, encoded_words, lexical

_TOKEN = r"[^ \t()<>@,;:\\\"/\[\]?=\x00-\x1f\x7f]+"
TOKEN = re.compile(_TOKEN)
_MIME_TYPE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_SEGMENT = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*+"?)*+', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)("?)', re.DOTALL)
_SECTION = re.compile(r"(.+?)(?:\*(\d{1,9}))?(\*)?", re.DOTALL)


@dataclass(slots=True)
class Parameterized:
    """A field taken apart: `value` and the names of `params` are lower-cased; `valid` when nothing breaks the syntax."""

    value: str
    params: dict[str, str] = field(default_factory=dict)
    valid: bool = True


def parse_content_type(text: str) -> Parameterized:
    """A Content-Type value; text/plain when it names no type (RFC 2045 §5.2). Raises InvalidMessage when it is too long."""
    parsed = _parse(text)
    found = _MIME_TYPE.match(parsed.value)
    if found is None:
        return Parameterized("text/plain", parsed.params, valid=False)
    return Parameterized(found[0], parsed.params, parsed.valid and found[0] == parsed.value)


def parse_disposition(text: str) -> Parameterized:
    """A Content-Disposition value. Raises InvalidMessage when it is too long."""
    parsed = _parse(text)
    parsed.valid &= TOKEN.fullmatch(parsed.value) is not None
    return parsed


def render_parameters(value: str, params: Mapping[str, str]) -> str:
    """`value` with its parameters, each of them on a line that may be folded before it. Beyond ASCII by RFC 2231."""
    return "; ".join([value, *(_render(name, text) for name, text in params.items())])


@dataclass(slots=True)
class _Sections:
    """The pieces of one parameter by number; `encoded` those that are percent-encoded."""

    pieces: dict[int, tuple[str, bool]] = field(default_factory=dict)


def _parse(text: str) -> Parameterized:
    lexical.check_length(text)
    bare, valid = lexical.strip_comments(text)
    segments = _split(bare)
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # many senders end with a semicolon, and Python's email package lets them
    out = Parameterized(segments[0].lower(), valid=valid and not lexical.CONTROL.search(bare))
    collected: dict[str, _Sections] = {}
    for segment in segments[1:]:
        out.valid &= _collect(segment, collected)
    for name, sections in collected.items():
        out.params[name], well_formed = _join(sections)
        out.valid &= well_formed
    return out


def _split(text: str) -> list[str]:
    segments: list[str] = []
    position = 0
    while found := _SEGMENT.match(text, position):
        segments.append(found[0].strip(" \t"))
        position = found.end() + 1
        if position > len(text):
            break
    return segments


def _collect(segment: str, collected: dict[str, _Sections]) -> bool:
    """Put one parameter where it belongs; False when it is not well formed."""
    name, equals, value = (part.strip(" \t") for part in segment.partition("="))
    quoted = _QUOTED.match(value)
    if quoted is None:
        valid = TOKEN.fullmatch(value) is not None
    else:
        valid = quoted.end() == len(value) and bool(quoted[2]) and not encoded_words.WORD.search(value)
        value = lexical.unquote(quoted[1])
    section = _SECTION.fullmatch(name.lower())
    if section is None or not equals:
        return False
    number, encoded = int(section[2] or 0), section[3] is not None
    sections = collected.setdefault(section[1], _Sections())
    if number in sections.pieces:
        return False  # the first one counts
    sections.pieces[number] = (value, encoded)
    return valid and TOKEN.fullmatch(name) is not None and not (encoded and quoted)


def _join(sections: _Sections) -> tuple[str, bool]:
    """The value that the sections make up (RFC 2231 §3, §4), and whether it decodes without loss."""
    pieces = [sections.pieces[number] for number in sorted(sections.pieces)]
    valid = len(pieces) == max(sections.pieces) + 1
    if not any(encoded for _, encoded in pieces):
        return encoded_words.decode("".join(text for text, _ in pieces)), valid
    name, quote, rest = pieces[0][0].partition("'") if pieces[0][1] else ("", "", "")
    _language, second_quote, first = rest.partition("'")
    if quote and second_quote:
        pieces[0] = (first, True)
    else:
        name, valid = charset.DEFAULT, False
    data = b"".join(unquote_to_bytes(text) if encoded else text.encode() for text, encoded in pieces)
    decoded, in_charset = charset.decode(data, name or charset.DEFAULT)
    return encoded_words.harmless(decoded), valid and in_charset


def _render(name: str, text: str) -> str:
    if TOKEN.fullmatch(text) and text.isascii():
        return f'{name}="{text}"'
    if text.isascii():
        return f"{name}={lexical.quote(text)}"
    encoded = "".join(chr(o) if o in _ATTRIBUTE_CHARS else f"%{o:02X}" for o in text.encode())
    return f"{name}*=utf-8''{encoded}"


_ATTRIBUTE_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`|~")
