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
# What is in parentheses is a comment, but programs that forget to quote the names of files write them so, too.
_UNQUOTED_FILE = re.compile(r"(?:^|;)[ \t]*(?:file)?name[ \t]*=[ \t]*[^\";]*\(", re.IGNORECASE)
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
    """`value` with its parameters, each of them on a line that may be folded before it. Beyond ASCII, and what is longer than a
    line, by RFC 2231."""
    return "; ".join([value, *(piece for name, text in params.items() for piece in _render(name, text))])


@dataclass(slots=True)
class _Sections:
    """What is said of one parameter: pieces by number, and whether they are percent-encoded (RFC 2231 §3, §4)."""

    pieces: dict[int, tuple[str, bool]] = field(default_factory=dict)
    #: the value without number and encoding, for readers that know neither
    plain: str | None = None
    #: the value that is percent-encoded as a whole
    extended: str | None = None

    def add(self, number: str | None, value: str, encoded: bool) -> bool:
        """False when there is one already: the first one counts, and the encoded one before the plain one."""
        if number is not None:
            known = int(number) in self.pieces
            self.pieces.setdefault(int(number), (value, encoded))
            return not known
        known = self.plain is not None or self.extended is not None
        if encoded and self.extended is None:
            self.extended = value
        elif not encoded and self.plain is None:
            self.plain = value
        return not known

    def chosen(self) -> tuple[list[tuple[str, bool]], bool]:
        """The pieces in their order, and whether nothing is amiss."""
        unnumbered = self.plain is not None or self.extended is not None
        if self.pieces and (0 in self.pieces or not unnumbered):
            complete = len(self.pieces) == max(self.pieces) + 1 and not unnumbered
            return [self.pieces[number] for number in sorted(self.pieces)], complete
        if self.extended is not None:
            return [(self.extended, True)], not self.pieces
        return [(self.plain or "", False)], not self.pieces


def _parse(text: str) -> Parameterized:
    lexical.check_length(text)
    bare, valid = lexical.strip_comments(text)
    segments = _split(text if _UNQUOTED_FILE.search(text) else bare)
    if len(segments) > 1 and not segments[-1]:
        segments.pop()  # many senders end with a semicolon, and Python's email package lets them
    out = Parameterized(encoded_words.harmless(segments[0].lower()), valid=valid and not lexical.CONTROL.search(bare))
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
        value = lexical.unescape(quoted[1]).replace("\t", " ")  # which is where a line was folded
    section = _SECTION.fullmatch(name.lower())
    if section is None or not equals:
        return False
    encoded = section[3] is not None
    sections = collected.setdefault(encoded_words.harmless(section[1]), _Sections())
    if not sections.add(section[2], value, encoded):
        return False
    return valid and TOKEN.fullmatch(name) is not None and not (encoded and quoted)


def _join(sections: _Sections) -> tuple[str, bool]:
    """The value that the sections make up (RFC 2231 §3, §4), and whether it decodes without loss."""
    pieces, valid = sections.chosen()
    if not any(encoded for _, encoded in pieces):
        return encoded_words.decode("".join(text for text, _ in pieces)), valid
    name, quote, rest = pieces[0][0].partition("'") if pieces[0][1] else ("", "", "")
    _language, second_quote, first = rest.partition("'")
    if quote and second_quote:
        pieces[0] = (first, True)
    else:
        name, valid = charset.DEFAULT, False
    data = b"".join(unquote_to_bytes(octets) if encoded else octets for octets, encoded in _as_octets(pieces))
    decoded, in_charset = charset.decode(data, name or charset.DEFAULT)
    return encoded_words.harmless(decoded), valid and in_charset


def _as_octets(pieces: list[tuple[str, bool]]) -> list[tuple[bytes, bool]]:
    return [(charset.octets(text), encoded) for text, encoded in pieces]


def _render(name: str, text: str) -> list[str]:
    """A parameter, or the sections of one that is too long for a line (RFC 2231 §3)."""
    plain = text.isascii() and "=?" not in text  # which readers take for an encoded word
    units = [lexical.escape(c) if plain else _percent_encode(c) for c in text]
    marks = ('="', '"') if plain else ("*=", "")
    first = "" if plain else _CHARSET
    whole = f"{name}{marks[0]}{first}{''.join(units)}{marks[1]}"
    if len(whole) <= _LONGEST:
        return [whole]
    room = _LONGEST - len(f"{name}*{_MOST_SECTIONS}{''.join(marks)}")
    pieces = [first]
    for unit in units:
        if len(pieces[-1]) + len(unit) > max(room, len(unit)):
            pieces.append("")
        pieces[-1] += unit
    return [f"{name}*{i}{marks[0]}{piece}{marks[1]}" for i, piece in enumerate(pieces)]


def _percent_encode(character: str) -> str:
    return "".join(chr(o) if o in _ATTRIBUTE_CHARS else f"%{o:02X}" for o in character.encode())


_CHARSET = "utf-8''"
#: characters of a parameter: with a space before it and a semicolon behind it on a line of its own (RFC 5322 §2.1.1)
_LONGEST = 76
#: sections that a parameter is expected to have, for the room that their numbers take
_MOST_SECTIONS = 999
_ATTRIBUTE_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`|~")
