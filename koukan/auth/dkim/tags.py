"""What DKIM-Signature fields and key records say: lists of tags (RFC 6376 §3.2, §3.5, §3.6.1)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dkim.util import InvalidTagValueList, parse_tag_value

from koukan.errors import KoukanError

#: seconds that the clock of a signer may be ahead of ours
CLOCK_SKEW = 300
#: header fields that one signature may name: more than messages have
MAX_SIGNED_FIELDS = 1000

ALGORITHMS = frozenset({"rsa-sha256", "ed25519-sha256"})
_CANONICALIZATIONS = frozenset({"simple", "relaxed"})
_REQUIRED = ("v", "a", "b", "bh", "d", "h", "s")
_WHITE_SPACE = re.compile(rb"[ \t\r\n]+")
_DIGITS = re.compile(r"[0-9]{1,76}")
_DOMAIN = re.compile(r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"]{1,255}")


class InvalidSignature(KoukanError):
    """A signature, or the key record for it, that can never be verified; `str()` says why."""


class UnknownAlgorithm(InvalidSignature):
    """A signature by an algorithm that nobody has taught us."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One DKIM-Signature field, syntactically right."""

    tags: Mapping[str, str]
    algorithm: str
    #: signing domain, lower-cased
    domain: str
    selector: str
    #: names of the signed header fields, lower-cased, in order
    headers: tuple[str, ...]
    header_canonicalization: str
    body_canonicalization: str
    signature: bytes
    body_hash: bytes
    #: octets of the canonical body that are signed; None: all
    length: int | None
    timestamp: int | None
    expiration: int | None

    @property
    def key_name(self) -> str:
        """Where the key is in DNS (§3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key record that may be used for a signature."""

    key_type: str
    key: bytes
    #: the domain of i= must be d= itself, not one below (t=s)
    strict: bool


def parse_tags(value: bytes) -> dict[str, str]:
    """The tags of a list, folding removed. Raises InvalidSignature."""
    try:
        found = parse_tag_value(value.replace(b"\r\n", b"").replace(b"\n", b""))
        return {name.decode(): text.decode() for name, text in found.items()}
    except (InvalidTagValueList, UnicodeDecodeError, IndexError):
        raise InvalidSignature("the tag list cannot be read") from None


def parse_signature(tags: Mapping[str, str], now: float) -> Signature:
    """What a verifier must check before it asks for the key (§6.1.1). `now`: Unix time. Raises InvalidSignature."""
    for name in _REQUIRED:
        if not tags.get(name):
            raise InvalidSignature(f"no {name}= tag")
    if tags["v"] != "1":
        raise InvalidSignature("v= is not 1")
    timestamp, expiration = _check_times(tags, now)
    header_canonicalization, body_canonicalization = _canonicalization(tags)
    signature = Signature(
        tags,
        _algorithm(tags),
        _domain(tags, "d").lower(),
        _domain(tags, "s"),
        _headers(tags),
        header_canonicalization,
        body_canonicalization,
        _decode(tags, "b"),
        _decode(tags, "bh"),
        _number(tags, "l"),
        timestamp,
        expiration,
    )
    identity = _identity(tags, signature.domain)
    if identity != signature.domain and not identity.endswith(f".{signature.domain}"):
        raise InvalidSignature("i= is not in the domain of d=")
    if "dns/txt" not in _list(tags.get("q", "dns/txt")):
        raise InvalidSignature("q= names no way to the key")
    return signature


def parse_key_record(record: bytes, signature: Signature) -> KeyRecord:
    """What a verifier must check of a key record (§6.1.2). Raises InvalidSignature."""
    tags = parse_tags(record)
    if tags.get("v", "DKIM1") != "DKIM1":
        raise InvalidSignature("the key record is of another version")
    key_type, hash_name = signature.algorithm.split("-")
    if tags.get("k", "rsa") != key_type:
        raise InvalidSignature("the key is of another type than the signature")
    if "h" in tags and hash_name not in _list(tags["h"]):
        raise InvalidSignature("the key is not for this hash")
    if not {"*", "email"} & set(_list(tags.get("s", "*"))):
        raise InvalidSignature("the key is not for mail")
    if "p" not in tags:
        raise InvalidSignature("the key record has no key")
    if not tags["p"]:
        raise InvalidSignature("the key is revoked")
    strict = "s" in _list(tags.get("t", ""))
    if strict and _identity(signature.tags, signature.domain) != signature.domain:
        raise InvalidSignature("the key is not for subdomains")
    return KeyRecord(key_type, _decode(tags, "p"), strict)


def without_signature(value: bytes) -> bytes:
    """The value of a DKIM-Signature field with b= emptied, as it is hashed (§3.5)."""
    segments = value.split(b";")
    for i, segment in enumerate(segments):
        name, equals, _ = segment.partition(b"=")
        if equals and name.strip(b" \t\r\n") == b"b":
            segments[i] = name + equals
    return b";".join(segments)


def _check_times(tags: Mapping[str, str], now: float) -> tuple[int | None, int | None]:
    timestamp, expiration = _number(tags, "t"), _number(tags, "x")
    if timestamp is not None and timestamp > now + CLOCK_SKEW:
        raise InvalidSignature("signed in the future")
    if expiration is not None and expiration < now:
        raise InvalidSignature("expired")
    if timestamp is not None and expiration is not None and expiration <= timestamp:
        raise InvalidSignature("expires before it was made")
    return timestamp, expiration


def _algorithm(tags: Mapping[str, str]) -> str:
    algorithm = tags["a"].lower()
    if algorithm == "rsa-sha1":
        raise InvalidSignature("rsa-sha1 proves nothing (RFC 8301)")
    if algorithm not in ALGORITHMS:
        raise UnknownAlgorithm("unknown signature algorithm")
    return algorithm


def _canonicalization(tags: Mapping[str, str]) -> tuple[str, str]:
    header, _, body = tags.get("c", "simple/simple").lower().partition("/")
    body = body or "simple"
    if header not in _CANONICALIZATIONS or body not in _CANONICALIZATIONS:
        raise InvalidSignature("c= is no canonicalization")
    return header, body


def _headers(tags: Mapping[str, str]) -> tuple[str, ...]:
    headers = tuple(_list(tags["h"].lower()))
    if "from" not in headers:
        raise InvalidSignature("From is not signed")
    if len(headers) > MAX_SIGNED_FIELDS:
        raise InvalidSignature(f"more than {MAX_SIGNED_FIELDS} signed fields")
    return headers


def _domain(tags: Mapping[str, str], name: str) -> str:
    if not _DOMAIN.fullmatch(tags[name]):
        raise InvalidSignature(f"{name}= is no domain name")
    return tags[name]


def _identity(tags: Mapping[str, str], domain: str) -> str:
    """The domain of i=, lower-cased."""
    return tags.get("i", f"@{domain}").rpartition("@")[2].lower()


def _number(tags: Mapping[str, str], name: str) -> int | None:
    if name not in tags:
        return None
    if not _DIGITS.fullmatch(tags[name]):
        raise InvalidSignature(f"{name}= is no number")
    return int(tags[name])


def _list(text: str) -> list[str]:
    return [item.strip(" \t") for item in text.split(":")]


def _decode(tags: Mapping[str, str], name: str) -> bytes:
    try:
        return base64.b64decode(_WHITE_SPACE.sub(b"", tags[name].encode()), validate=True)
    except binascii.Error:
        raise InvalidSignature(f"{name}= is no base64") from None
