"""SPF macros (RFC 7208 §7): parsed with the record that holds them, expanded when a term needs it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from koukan.errors import InvalidRecord

#: characters of a domain name; what is longer loses labels on its left (RFC 7208 §7.3)
MAX_DOMAIN = 253
#: characters that are kept of what may be longer: a whole name and any one label in front of it
_ENOUGH = MAX_DOMAIN + 64
#: a digit transformer beyond this asks for more parts than any value has
_MANY = 10**6

_TOKEN = re.compile(r"(?P<literal>[ !-$&-~]+)|%(?P<escape>[%_-])|%\{(?P<body>[A-Za-z0-9.\-+,/_=]+)\}")
_BODY = re.compile(
    r"(?P<letter>[slodiphcrtv])(?P<digits>[0-9]*)(?P<reverse>r?)(?P<delimiters>[.\-+,/_=]*)", re.IGNORECASE
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
#: letters that mean something in an explanation only
_EXPLANATION_ONLY = frozenset("crt")


@dataclass(frozen=True, slots=True)
class Macro:
    """One `%{…}`: a value, cut at the delimiters, turned round and shortened."""

    letter: str
    #: escaped as in a URL
    escape: bool = False
    #: parts to keep, from the right; 0 keeps all
    count: int = 0
    reverse: bool = False
    delimiters: str = "."

    def expand(self, values: Mapping[str, str]) -> str:
        parts = re.split(f"[{re.escape(self.delimiters)}]", values[self.letter])
        if self.reverse:
            parts.reverse()
        text = ".".join(parts[-self.count :])
        return quote(text, safe="") if self.escape else text


@dataclass(frozen=True, slots=True)
class MacroString:
    """Literal text and macros in their order. `values` that expand it hold one for each of `letters`."""

    parts: tuple[str | Macro, ...]

    @property
    def letters(self) -> frozenset[str]:
        return frozenset(part.letter for part in self.parts if isinstance(part, Macro))

    def expand_domain(self, values: Mapping[str, str]) -> str:
        """A domain name of at most MAX_DOMAIN characters; labels on the left that make it longer are left out."""
        pieces: list[str] = []
        size = 0
        for part in reversed(self.parts):
            pieces.append(part if isinstance(part, str) else part.expand(values))
            size += len(pieces[-1])
            if size > _ENOUGH:
                break
        name = "".join(reversed(pieces))[-_ENOUGH:]
        while len(name) > MAX_DOMAIN:
            name = name.partition(".")[2]
        return name

    def expand_text(self, values: Mapping[str, str], limit: int) -> str | None:
        """The whole text; None when it is longer than `limit` characters."""
        text = ""
        for part in self.parts:
            text += part if isinstance(part, str) else part.expand(values)
            if len(text) > limit:
                return None
        return text


def parse_macros(text: str, *, explanation: bool = False) -> MacroString:
    """A macro-string; with `explanation` an explain-string, which may hold spaces (§7.1). Raises InvalidRecord."""
    return MacroString(tuple(part for part, _ in _parts(text, explanation)))


def parse_domain_spec(text: str) -> MacroString:
    """A domain-spec: a macro-string that ends in a macro or a top-level label. Raises InvalidRecord."""
    parts = list(_parts(text, False))
    if not parts or not (parts[-1][1] or _ends_in_label(str(parts[-1][0]))):
        raise InvalidRecord(f"no domain name: {text[:60]!a}")
    return MacroString(tuple(part for part, _ in parts))


def _parts(text: str, explanation: bool) -> Iterator[tuple[str | Macro, bool]]:
    """Text and macros, each with whether it is a macro-expand."""
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or (found["literal"] and " " in found["literal"] and not explanation):
            raise InvalidRecord(f"no macro or visible character: {text[position : position + 20]!a}")
        if found["literal"]:
            yield found["literal"], False
        elif found["escape"]:
            yield _ESCAPES[found["escape"]], True
        else:
            yield _macro(found["body"], explanation), True
        position = found.end()


def _macro(body: str, explanation: bool) -> Macro:
    found = _BODY.fullmatch(body)
    letter = found["letter"].lower() if found else ""
    if found is None or (letter in _EXPLANATION_ONLY and not explanation):
        raise InvalidRecord(f"no such macro: {body[:20]!a}")
    digits = found["digits"].lstrip("0")
    if found["digits"] and not digits:
        raise InvalidRecord(f"macro keeps no part: {body[:20]!a}")
    return Macro(
        letter,
        escape=found["letter"].isupper(),
        count=(int(digits) if len(digits) <= 6 else _MANY) if digits else 0,
        reverse=bool(found["reverse"]),
        delimiters=found["delimiters"] or ".",
    )


def _ends_in_label(tail: str) -> bool:
    """Whether the end is `.` and a label that can be a top-level domain: no number, no dash at either end."""
    _, dot, label = tail.removesuffix(".").rpartition(".")
    return bool(dot) and not label.isdigit() and _LABEL.fullmatch(label) is not None
