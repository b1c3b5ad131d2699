"""Address lists of header fields: From, To, Cc, Reply-To and their like (RFC 5322 §3.4).

Reads whatever mail has, in linear time; says beside it whether the list keeps to the current syntax (§3, without the
obsolete forms of §4), as Python's email package does with its defects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from koukan.message import encoded_words, lexical
from koukan.message.address import Address, read_address

_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+)
  | (?P<word>{encoded_words.WORD.pattern})
  | "(?P<quoted>(?:[^"\\]|\\.)*+)(?P<closed>"?)
  | (?P<atom>[^ \t\r\n()<>\[\]:;@\\,."]+)
  | (?P<literal>\[[^\[\]\\]*\])
  | (?P<special>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class NamedMailbox(NamedTuple):
    """One mailbox of a list: the display name, decoded, and the addr-spec as written, empty when there is none."""

    display_name: str
    spec: str

    @property
    def address(self) -> Address | None:
        """The addr-spec taken apart, as others issue them; None when it is no address."""
        return read_address(self.spec)


@dataclass(slots=True)
class MailboxList:
    """The mailboxes of a field, groups flattened; `valid` when nothing in it breaks the syntax."""

    mailboxes: list[NamedMailbox] = field(default_factory=list)
    valid: bool = True


class _Token(NamedTuple):
    kind: str
    text: str
    #: white space or a comment stands before it
    apart: bool


def parse_mailboxes(text: str) -> MailboxList:
    """The mailboxes of an unfolded field value. Raises InvalidMessage when it is too long."""
    lexical.check_length(text)
    reader = _Reader()
    if not text:
        return reader.out
    if lexical.CONTROL.search(text):
        reader.out.valid = False
    for token in _tokens(text, reader.out):
        reader.take(token)
    reader.end()
    return reader.out


def _tokens(text: str, out: MailboxList) -> Iterator[_Token]:
    position, apart = 0, False
    while found := _TOKEN.match(text, position):
        kind, position = found.lastgroup or "", found.end()
        if kind == "space":
            apart = True
        elif kind == "special" and found["special"] == "(":
            end = lexical.end_of_comment(text, position)
            out.valid &= end is not None
            position, apart = end or len(text), True
        elif kind == "closed":
            out.valid &= bool(found["closed"]) and not encoded_words.WORD.search(found["quoted"])
            yield _Token("quoted", lexical.unquote(found["quoted"]), apart)
            apart = False
        else:
            yield _Token(kind, found[0], apart)
            apart = False


class _Reader:
    """Takes a list apart token by token."""

    def __init__(self) -> None:
        self.out = MailboxList()
        self._phrase: list[_Token] = []
        #: inside `<>`, or what was there
        self._angle: list[_Token] = []
        self._in_angle = False
        self._had_angle = False
        self._in_group = False
        #: a group or an angle-addr has ended: only a separator may follow
        self._closed = False

    def take(self, token: _Token) -> None:
        text = token.text if token.kind == "special" else ""
        if self._in_angle:
            self._take_in_angle(token, text)
        elif text == ",":
            self._finish(empty_is_valid=False)
        elif text == ";":
            self._end_group()
        elif text == ":":
            self._start_group()
        elif self._closed:
            self.out.valid = False
        elif text == "<":
            self._in_angle = self._had_angle = True
            # An encoded word ends at white space (RFC 2047 §5).
            self.out.valid &= token.apart or not self._phrase or self._phrase[-1].kind != "word"
        else:
            self._phrase.append(token)

    def end(self) -> None:
        self.out.valid &= not self._in_angle and not self._in_group
        self._finish(empty_is_valid=False)

    def _take_in_angle(self, token: _Token, text: str) -> None:
        if text == ">":
            self._in_angle, self._closed = False, True
        elif text == "," and not (self._angle and self._angle[0].text == "@"):  # the comma of a source route is another
            self.out.valid = self._in_angle = False
            self._finish(empty_is_valid=False)
        else:
            self._angle.append(token)

    def _start_group(self) -> None:
        self.out.valid &= not self._in_group and not self._closed and _valid_phrase(self._phrase) and bool(self._phrase)
        self._in_group = True
        self._phrase, self._closed = [], False

    def _end_group(self) -> None:
        self.out.valid &= self._in_group
        self._finish(empty_is_valid=True)
        self._in_group, self._closed = False, True

    def _finish(self, *, empty_is_valid: bool) -> None:
        """What has been read since the last separator is one element."""
        if self._had_angle:
            spec, valid = _addr_spec(self._angle)
            self._add(_display_name(self._phrase), spec, valid and _valid_phrase(self._phrase))
        elif self._phrase:
            spec, valid = _addr_spec(self._phrase)
            self._add("" if spec else _display_name(self._phrase), spec, valid)
        elif not self._closed and not empty_is_valid:
            self.out.valid = False
        self._phrase, self._angle = [], []
        self._had_angle = self._closed = False

    def _add(self, display_name: str, spec: str, valid: bool) -> None:
        self.out.mailboxes.append(NamedMailbox(display_name, spec))
        self.out.valid &= valid


def _addr_spec(tokens: Sequence[_Token]) -> tuple[str, bool]:
    """The addr-spec that the tokens are, empty when they are none; and whether it is in current syntax."""
    valid = True
    if tokens and tokens[0].text == "@":  # a source route
        end = next((i for i, token in enumerate(tokens) if token.text == ":"), -1)
        tokens, valid = tokens[end + 1 :], False
    if len(tokens) == 1 and tokens[0].kind in ("atom", "quoted"):
        return tokens[0].text, False
    at = [i for i, token in enumerate(tokens) if token.kind == "special" and token.text == "@"]
    if len(at) != 1:
        return "", False
    local, domain = tokens[: at[0]], tokens[at[0] + 1 :]
    if not _separated(local) or not _separated(domain):
        return "", False
    valid = valid and _dotted(local, "quoted") and _dotted(domain, "literal")
    if len(local) == 1 and local[0].kind == "quoted":
        return str(Address(local[0].text, _text(domain))), valid
    return f"{_text(local)}@{_text(domain)}", valid


def _separated(tokens: Sequence[_Token]) -> bool:
    """Whether there are words with dots between them, however many: what obsolete syntax and careless senders have."""
    dots = [token.text == "." for token in tokens]
    return not all(dots) and all(one or other for one, other in pairwise(dots))


def _dotted(tokens: Sequence[_Token], alternative: str) -> bool:
    """Whether the tokens are a dot-atom, or the one token that may stand instead (§3.4.1)."""
    if len(tokens) == 1 and tokens[0].kind == alternative:
        return True
    kinds = [token.text if token.text == "." else token.kind for token in tokens]
    return (
        len(kinds) % 2 == 1
        and set(kinds[::2]) <= {"atom", "word"}
        and set(kinds[1::2]) <= {"."}
        and not any(token.apart for token in tokens[1:])
    )


def _valid_phrase(tokens: Sequence[_Token]) -> bool:
    for token, following in zip(tokens, [*tokens[1:], None], strict=False):
        if token.kind not in ("atom", "quoted", "word"):
            return False
        if token.kind == "word" and not _valid_word(token.text, following):
            return False
    return True


def _valid_word(text: str, following: _Token | None) -> bool:
    found = encoded_words.WORD.fullmatch(text)
    return found is not None and encoded_words.well_formed(found) and (following is None or following.apart)


def _display_name(tokens: Sequence[_Token]) -> str:
    joined = "".join(f" {token.text}" if token.apart and i else token.text for i, token in enumerate(tokens))
    return encoded_words.decode(joined)


def _text(tokens: Sequence[_Token]) -> str:
    return "".join(token.text for token in tokens)
