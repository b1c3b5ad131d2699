"""DKIM signatures for mail that goes out (RFC 6376 §5, RFC 8463)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from koukan.auth.dkim.canonical import BodyHash, canonical_field, canonical_header, select_fields
from koukan.auth.dkim.keys import KeyFile, SigningKey
from koukan.executor import run_bounded
from koukan.message.headers import Headers

#: relaxed headers survive refolding; no relay changes white space in bodies
HEADER_CANONICALIZATION = "relaxed"
BODY_CANONICALIZATION = "simple"
#: fields of one name that are signed, from the lowest up: nothing has so many, and verifiers have bounds
_MOST_OF_A_NAME = 20
#: characters of a line of the signature
_LINE = 72

#: fields that mean something to readers (RFC 6376 §5.4.1) and that are signed once more than they are there, so that none of
#: them can be added on the way
OVERSIGNED = (
    *("from", "sender", "reply-to", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding"),
)
#: fields that are signed if they are there. No field that belongs to the way (Received, Return-Path, other signatures and
#: results) or that is taken out on it (Bcc) is in either list (§5.4)
SIGNED = (
    *("content-id", "content-description", "content-language", "content-disposition"),
    *("resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id"),
    *("list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post"),
    *("list-owner", "list-archive", "auto-submitted", "feedback-id", "importance", "organization"),
)


@dataclass(frozen=True, slots=True)
class Signer:
    """A key with the name under which its public half is in DNS. `domain` in A-labels."""

    domain: str
    selector: str
    key: KeyFile

    async def sign(self, headers: Headers, body_hash: bytes, timestamp: int) -> bytes:
        """The DKIM-Signature field. `timestamp`: Unix time. Raises Overloaded."""
        key = self.key.get()
        names = signed_names(headers)
        value = self._unsigned(key, names, body_hash, timestamp)
        digest = hashlib.sha256()
        for field in select_fields(names, headers):
            digest.update(canonical_field(field, HEADER_CANONICALIZATION))
        own = canonical_header(b"DKIM-Signature", value, HEADER_CANONICALIZATION)
        digest.update(own.removesuffix(b"\r\n"))
        sign = run_bounded(key.sign, digest.digest()) if key.slow else None
        signature = await sign if sign else key.sign(digest.digest())
        return b"DKIM-Signature:%s%s\r\n" % (value, _fold(base64.b64encode(signature), len("\tb=")))

    def _unsigned(self, key: SigningKey, names: tuple[str, ...], body_hash: bytes, timestamp: int) -> bytes:
        return b"\r\n\t".join(
            [
                b" v=1; a=%s; c=%s/%s;"
                % (key.algorithm.encode(), HEADER_CANONICALIZATION.encode(), BODY_CANONICALIZATION.encode()),
                b"d=%s;" % self.domain.encode(),
                b"s=%s; t=%d;" % (self.selector.encode(), timestamp),
                _fold_names(names),
                b"bh=%s;" % base64.b64encode(body_hash),
                b"b=",
            ]
        )


def new_body_hash() -> BodyHash:
    """The hash that every Signer takes."""
    return BodyHash(BODY_CANONICALIZATION)


def signed_names(headers: Headers) -> tuple[str, ...]:
    """The fields of h=, a name for each that is there and one more where none may be added."""
    names: list[str] = []
    for name in OVERSIGNED:
        names += [name] * min(headers.count(name) + 1, _MOST_OF_A_NAME)
    for name in SIGNED:
        names += [name] * min(headers.count(name), _MOST_OF_A_NAME)
    return tuple(names)


def _fold(text: bytes, used: int) -> bytes:
    first = _LINE - used
    pieces = [text[:first], *(text[i : i + _LINE] for i in range(first, len(text), _LINE))]
    return b"\r\n\t".join(pieces)


def _fold_names(names: tuple[str, ...]) -> bytes:
    lines, line = [], "h="
    for i, name in enumerate(names):
        if len(line) + len(name) >= _LINE:
            lines.append(line)
            line = ""
        line += name + (":" if i < len(names) - 1 else ";")
    return "\r\n\t".join([*lines, line]).encode()
