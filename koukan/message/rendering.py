"""Header fields on their way out: encoded, folded, and never more than one field (RFC 5322 §2.2, RFC 2047, RFC 6532).

Control characters in a value are refused with InvalidMessage: whatever a client, a display name or an encoded word holds, it
cannot begin another field. `sanitize` is for the few places that must write something whatever they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import quote

from koukan.errors import InvalidMessage
from koukan.message import encoded_words, lexical
from koukan.message.address import Address, ascii_domain, parse_address

#: characters of a line that should not be exceeded (RFC 5322 §2.1.1)
SOFT_LIMIT = 78
#: octets of a line that must not be exceeded, its end not counted (RFC 5322 §2.1.1)
HARD_LIMIT = 998
#: characters of a word that is written as it is; longer ones become encoded words where the field allows it
_LONGEST_WORD = 900

_FIELD_NAME = re.compile(r"[!-9;-~]{1,200}")
_LINE_BREAKING = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_GAP_AND_WORD = re.compile(r"([ \t]*)([^ \t]+)")
_MESSAGE_ID = re.compile(r"[!-;=?-~]+")
_URI = re.compile(r"(<[A-Za-z][A-Za-z0-9+.-]*:)(?://([^/?#<>:@]*))?([^<>]*)(>,?)")
_URI_SAFE = "".join(map(chr, range(0x21, 0x7F)))


class Named(NamedTuple):
    """A mailbox with its display name, which may be empty."""

    display_name: str
    spec: str


class Group(NamedTuple):
    """A named group of mailboxes, often empty (RFC 5322 §3.4)."""

    name: str
    members: Sequence[Named]


def check_name(name: str) -> str:
    """A field name that may be written. Raises InvalidMessage."""
    if not _FIELD_NAME.fullmatch(name):
        raise InvalidMessage(f"header {name!r}: a name is printable ASCII without spaces and colons")
    return name


def check_text(field: str, text: str) -> str:
    """Text without control characters. Raises InvalidMessage."""
    if found := _LINE_BREAKING.search(text):
        raise InvalidMessage(f"{field}: control character {found[0]!r} is not allowed")
    return text


def sanitize(text: str) -> str:
    """`text` as printable ASCII without spaces: `?` for everything else."""
    return "".join(c if "!" <= c <= "~" else "?" for c in text)


def render_text(name: str, text: str) -> bytes:
    """A field of free text, such as Subject. Encoded words in `text` are taken as such and written anew."""
    check_text(f"header {name}", text)
    pieces = [(found[1], found[2]) for found in _GAP_AND_WORD.finditer(encoded_words.decode(text).strip(" \t"))]
    to_encode = [i for i, (_, word) in enumerate(pieces) if not _plain(word)]
    if to_encode:
        first, last = to_encode[0], to_encode[-1] + 1
        encoded = "".join(gap + word for gap, word in pieces[first:last])[len(pieces[first][0]) :]
        words = encoded_words.encode(encoded, SOFT_LIMIT - len(name) - 2)
        gap = pieces[first][0]
        pieces[first:last] = [(" " if i else gap, word) for i, word in enumerate(words)]
    return _fold(name, pieces)


def render_mailboxes(name: str, boxes: Iterable[Named | Group]) -> bytes:
    """An address list. Raises InvalidMessage for what is no address."""
    words: list[str] = []
    for box in boxes:
        words += _mailbox(name, box) if isinstance(box, Named) else _group(name, box)
        words[-1] += ","
    if words:
        words[-1] = words[-1][:-1]
    return _fold(name, [(" ", word) for word in words])


def render_ids(name: str, ids: Iterable[str]) -> bytes:
    """Message ids, with or without their angle brackets. Raises InvalidMessage."""
    words = []
    for text in ids:
        bare = text.strip(" \t")
        bare = bare[1:-1] if bare.startswith("<") and bare.endswith(">") else bare
        bare = _ascii_id(bare)
        if not _MESSAGE_ID.fullmatch(bare):
            raise InvalidMessage(f"header {name}: {text!r} is no message id")
        words.append(f"<{bare}>")
    return _fold(name, [(" ", word) for word in words])


def render_parameterized(name: str, value: str) -> bytes:
    """A field as koukan.message.parameters renders it, folded between its parameters."""
    return _fold(name, [(" ", word) for word in value.split("; ")], separator=";")


def render_structured(name: str, text: str) -> bytes:
    """A field that software reads: folded between its words and never encoded. Raises InvalidMessage beyond ASCII."""
    check_text(f"header {name}", text)
    words = [_ascii_uri(word) for word in text.replace(">,<", ">, <").split()]
    if not all(word.isascii() for word in words):
        raise InvalidMessage(f"header {name}: {text[:100]!r} must be ASCII")
    return _fold(name, [(" ", word) for word in words])


def render_list_id(name: str, text: str) -> bytes:
    """A phrase for people and the identifier of a list in angle brackets (RFC 2919 §3)."""
    phrase, bracket, identifier = text.rpartition("<")
    if not bracket or phrase.isascii():
        return render_structured(name, text)
    words = _phrase(name, phrase.strip().strip('"'))
    return _fold(name, [(" ", word) for word in (*words, f"<{check_text(f'header {name}', identifier)}")])


def render_words(name: str, words: Iterable[str]) -> bytes:
    """A structured field from its pieces, a space between them, folded there. Raises InvalidMessage."""
    return _fold(name, [(" ", check_text(f"header {name}", word)) for word in words])


def format_date(when: datetime) -> str:
    """A date-time in the zone of `when` (RFC 5322 §3.3)."""
    return format_datetime(when)


def make_date(unix_secs: int, tz_offset: int = 0) -> datetime:
    """The moment `unix_secs` in a zone `tz_offset` seconds east of UTC. Raises InvalidMessage out of range."""
    try:
        # A zone is written in hours and minutes.
        zone = timezone(timedelta(minutes=int(tz_offset / 60)))
        moment = datetime.fromtimestamp(unix_secs, zone if tz_offset else UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidMessage(f"header date: {error}") from None
    if moment.year < 1900:
        raise InvalidMessage("header date: mail knows no year before 1900")
    return moment


def _plain(word: str) -> bool:
    return word.isascii() and "=?" not in word and len(word) <= _LONGEST_WORD


def _mailbox(field: str, box: Named) -> list[str]:
    spec = _spec(field, box.spec)
    phrase = _phrase(field, box.display_name)
    return [*phrase, f"<{spec}>"] if phrase else [spec]


def _group(field: str, group: Group) -> list[str]:
    words = _phrase(field, group.name)
    if not words:
        raise InvalidMessage(f"header {field}: a group needs a name")
    words[-1] += ":"
    for member in group.members:
        words += _mailbox(field, member)
        words[-1] += ","
    words[-1] = words[-1].removesuffix(",") + ";"
    return words


def _spec(field: str, text: str) -> str:
    address = parse_address(text)
    if address is None:
        raise InvalidMessage(f"header {field}: {text!r} is no mail address")
    if address.domain.isascii():
        return text
    # With an A-label the message needs no SMTPUTF8 as long as the local part is ASCII.
    domain = ascii_domain(address.domain)
    if domain is None:
        raise InvalidMessage(f"header {field}: {address.domain!r} is no domain name")
    return str(Address(address.local, domain)) if address.local.isascii() else text


def _ascii_id(text: str) -> str:
    """An id whose domain is in A-labels; ids are ASCII."""
    left, _, domain = text.rpartition("@")
    return text if domain.isascii() else f"{left}@{ascii_domain(domain) or domain}"


def _ascii_uri(word: str) -> str:
    """A URI in angle brackets as every reader knows it: its host in A-labels, all else percent-encoded (RFC 3987 §3.1)."""
    found = _URI.fullmatch(word)
    if word.isascii() or found is None:
        return word
    start, host, rest, end = found.groups()
    authority = "" if host is None else f"//{ascii_domain(host) or host}"
    return start + quote(authority + rest, safe=_URI_SAFE) + end


def _phrase(field: str, text: str) -> list[str]:
    """A display name: atoms, a quoted string, or encoded words."""
    check_text(f"header {field}", text)
    words = text.split()
    if not words:
        return []
    if not all(_plain(word) for word in words):
        return encoded_words.encode(text.strip(), SOFT_LIMIT - len(field) - 2)
    if all(_ATOM.fullmatch(word) for word in words):
        return words
    return [lexical.quote(" ".join(words))]


def _fold(name: str, pieces: Iterable[tuple[str, str]], separator: str = "") -> bytes:
    """One field: words with the white space before each; a line ends before a gap when the next word would not fit."""
    check_name(name)
    lines: list[str] = []
    line = f"{name}:"
    for i, (gap, word) in enumerate(pieces):
        if i:
            line += separator
        addition = (gap or " ") + word
        # The first word stays on the line of the name: some software cannot read a first line without content.
        if i and len(line) + len(addition) + len(separator) > SOFT_LIMIT:
            lines.append(line)
            line = ""
        line += addition
    lines.append(line)
    rendered = [line.encode() for line in lines]
    if max(map(len, rendered)) > HARD_LIMIT:
        raise InvalidMessage(f"header {name}: a word is too long for a line of {HARD_LIMIT} octets")
    return b"\r\n".join(rendered) + b"\r\n"
