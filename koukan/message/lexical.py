"""The smallest pieces of structured header fields: quoted strings, comments, white space (RFC 5322 §3.2)."""

from __future__ import annotations

import re

from koukan.errors import InvalidMessage

#: characters of structured fields in one message: some 5,000 recipients; the worst that fits is read in half a second
MAX_STRUCTURED = 256 * 1024

#: control characters that no field may hold; TAB and line ends have their own rules
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_TO_QUOTE = re.compile(r'(["\\])')
_SPACES = re.compile(r"[ \t\r\n]+")
_COMMENT_MARK = re.compile(r"[()]|\\.", re.DOTALL)
_OUTSIDE_COMMENTS = re.compile(r'(?:[^"(]|"(?:[^"\\]|\\.)*+"?)*+', re.DOTALL)


def check_length(text: str) -> None:
    """Raises InvalidMessage for a structured field that is too long to be read."""
    if len(text) > MAX_STRUCTURED:
        raise InvalidMessage(f"a structured header field is longer than {MAX_STRUCTURED} characters")


def quote(text: str) -> str:
    """`text` as a quoted-string."""
    return f'"{escape(text)}"'


def escape(text: str) -> str:
    """`text` as the content of a quoted-string."""
    return _TO_QUOTE.sub(_escape, text)


def unescape(content: str) -> str:
    """The content of a quoted-string without the backslashes before its characters."""
    return _QUOTED_PAIR.sub(r"\1", content) if "\\" in content else content


def unquote(content: str) -> str:
    """What the content of a quoted-string means in a phrase; runs of white space count as one."""
    return _SPACES.sub(" ", unescape(content))


def end_of_comment(text: str, start: int) -> int | None:
    """Where the comment ends whose parenthesis opened just before `start`; comments nest. None: it never does."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    return None


def strip_comments(text: str) -> tuple[str, bool]:
    """`text` with a space for every comment, stripped; and whether all of them end."""
    if "(" not in text:
        return text.strip(" \t"), True
    kept: list[str] = []
    position: int | None = 0
    while position is not None and (found := _OUTSIDE_COMMENTS.match(text, position)):
        kept.append(found[0])
        if found.end() == len(text):
            break
        kept.append(" ")
        position = end_of_comment(text, found.end() + 1)
    return "".join(kept).strip(" \t"), position is not None


def _escape(character: re.Match[str]) -> str:
    return f"\\{character[1]}"
