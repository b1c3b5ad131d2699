"""The Authentication-Results field: written, and recognised when others write it in our name (RFC 8601)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from koukan.message import lexical
from koukan.message.address import ascii_domain
from koukan.message.rendering import SOFT_LIMIT

#: characters of a value: no domain, address or reason that matters is longer
MAX_VALUE = 256

# Fields with white space before the colon, and those behind a line that is no header: some readers take them, too.
_FIELD = re.compile(
    rb"(?<![^\r\n])authentication-results[ \t]*:(?P<value>[^\r\n]*+(?:(?:\r\n|\r|\n)[ \t][^\r\n]*+)*+)(?:\r\n|\r|\n|\Z)",
    re.IGNORECASE,
)
_LINE_END = re.compile(rb"[\r\n]+")
_ID = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<token>[^\s;"]++)', re.DOTALL)
_TOKEN = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]+")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\ud7ff\ue000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one method found: `spf=pass`; `properties` are what it looked at, by name: `smtp.mailfrom`."""

    method: str
    result: str
    properties: Sequence[tuple[str, str]] = field(default_factory=tuple)
    reason: str | None = None


def normal_id(authserv_id: str) -> str:
    """An authserv-id as it is compared: without case, U-labels as A-labels."""
    lowered = authserv_id.lower()
    return ascii_domain(lowered) or lowered


def render(authserv_id: str, results: Iterable[MethodResult], *, smtputf8: bool) -> bytes:
    """The field. Values are whoever's word: what they hold cannot end them. Beyond ASCII they need `smtputf8`."""
    own = authserv_id if smtputf8 else normal_id(authserv_id)
    text = f"Authentication-Results: {_value(own, smtputf8)}"
    rendered = [_method(result, smtputf8) for result in results]
    return ((";\r\n\t".join([text, *rendered]) if rendered else f"{text}; none") + "\r\n").encode()


def _method(result: MethodResult, smtputf8: bool) -> str:
    words = [f"{result.method}={result.result}"]
    if result.reason is not None:
        words.append(f"reason={lexical.quote(_printable(result.reason, smtputf8))}")
    words += [f"{name}={_value(value, smtputf8)}" for name, value in result.properties]
    lines = words[:1]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < SOFT_LIMIT - 2:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\r\n\t ".join(lines)


def without_forged(block: bytes, authserv_id: str) -> bytes | None:
    """A header block without the fields that claim to be ours; None when there are none.

    A field whose authserv-id cannot be read is taken out, too: another reader may find our name in it.
    """
    own = normal_id(authserv_id)
    kept: list[bytes] = []
    position = 0
    for found in _FIELD.finditer(block):
        if _claimed_id(found["value"]) in (None, own):
            kept.append(block[position : found.start()])
            position = found.end()
    if position == 0:
        return None
    kept.append(block[position:])
    return b"".join(kept)


def _claimed_id(value: bytes) -> str | None:
    text = _LINE_END.sub(b"", value).decode("utf-8", "replace")
    if len(text) > lexical.MAX_STRUCTURED:
        return None
    bare, well_formed = lexical.strip_comments(text)
    found = _ID.match(bare)
    if found is None or not well_formed:
        return None
    return normal_id(found["token"] if found["quoted"] is None else lexical.unquote(found["quoted"]))


def _value(text: str, smtputf8: bool) -> str:
    """A value: a token, a domain, or an address as they are, everything else quoted."""
    text = _printable(text, smtputf8)
    words = text.replace("@", ".", 1).split(".")
    return text if all(_TOKEN.fullmatch(word) for word in words) else lexical.quote(text)


def _printable(text: str, smtputf8: bool) -> str:
    text = _NOT_PRINTABLE.sub("?", text[:MAX_VALUE])
    if text.isascii() or (smtputf8 and len(text.encode()) <= 2 * MAX_VALUE):
        return text
    return ascii_domain(text) or text.encode("ascii", "replace").decode()
