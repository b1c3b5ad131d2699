"""Verification of DKIM signatures (RFC 6376 §6, RFC 8463): every signature gets a verdict, whatever is in it."""

from __future__ import annotations

import asyncio
import enum
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature as BadSignature
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from koukan.auth.dkim.canonical import BodyHash, canonical_field, canonical_header, select_fields
from koukan.auth.dkim.hashing import read_message
from koukan.auth.dkim.tags import (
    InvalidSignature,
    KeyRecord,
    Signature,
    UnknownAlgorithm,
    parse_key_record,
    parse_signature,
    parse_tags,
    without_signature,
)
from koukan.message.headers import Field, Headers
from koukan.model import Body
from koukan.net.dns import Answer

#: signatures of one message that are verified; mail has one to three, and each may cost a question and 0.1 ms
MAX_SIGNATURES = 10
#: bits of an RSA key: shorter ones can be broken (RFC 8301 §3.2)
MIN_RSA_BITS = 1024
#: bits of an RSA key: longer ones cost too much time
MAX_RSA_BITS = 8192
#: key records of one name that are tried: there should be one (RFC 6376 §3.6.2.2), and two while a key is replaced
MAX_KEYS = 4

_SHA256 = Prehashed(hashes.SHA256())


class TextLookup(Protocol):
    """Where key records come from: koukan.net.dns.Resolver."""

    async def txt(self, name: str) -> Answer[bytes]:
        """The TXT records of a name."""
        ...


class Status(enum.Enum):
    """What became of a signature."""

    PASS = "pass"
    #: it is wrong, and stays so
    FAIL = "fail"
    #: the key could not be had now
    TEMPORARY = "temporary"
    UNKNOWN_ALGORITHM = "unknown algorithm"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one signature; `signature` is None when its tags cannot be read. `reason`: why it is no pass."""

    status: Status
    reason: str | None = None
    signature: Signature | None = None
    #: the tags as far as they can be read
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdicts on a message, from the top signature to the last. `ignored`: signatures beyond the bound."""

    headers: Headers
    verdicts: tuple[Verdict, ...]
    ignored: int


class _Candidate:
    """A signature on its way to its verdict."""

    def __init__(self, header: Field, now: float) -> None:
        self.header = header
        self.tags: dict[str, str] = {}
        self.signature: Signature | None = None
        self.body_hash: BodyHash | None = None
        self.error: InvalidSignature | None = None
        try:
            self.tags = parse_tags(header.value)
            self.signature = parse_signature(self.tags, now)
            self.body_hash = BodyHash(self.signature.body_canonicalization, self.signature.length)
        except InvalidSignature as error:
            self.error = error


async def verify(body: Body, texts: TextLookup, now: float, *, max_signatures: int = MAX_SIGNATURES) -> Verification:
    """Verify the signatures of a message. `now`: Unix time. Raises InvalidMessage for headers that are too large."""
    candidates: list[_Candidate] = []

    def choose(headers: Headers) -> list[BodyHash]:
        found = headers.all("dkim-signature")[:max_signatures]
        candidates.extend(_Candidate(header, now) for header in found)
        return _shared_hashes(candidates)

    headers = await read_message(body, choose)
    digests: dict[BodyHash, bytes] = {}
    verdicts = await asyncio.gather(*(_judge(candidate, headers, texts, digests) for candidate in candidates))
    return Verification(headers, tuple(verdicts), headers.count("dkim-signature") - len(candidates))


def _shared_hashes(candidates: list[_Candidate]) -> list[BodyHash]:
    """One hash for the signatures that want the same."""
    shared: dict[tuple[str, int | None], BodyHash] = {}
    for candidate in candidates:
        if candidate.signature is not None and candidate.body_hash is not None:
            key = candidate.signature.body_canonicalization, candidate.signature.length
            candidate.body_hash = shared.setdefault(key, candidate.body_hash)
    return list(shared.values())


async def _judge(candidate: _Candidate, headers: Headers, texts: TextLookup, digests: dict[BodyHash, bytes]) -> Verdict:
    signature, body_hash = candidate.signature, candidate.body_hash
    if signature is None or body_hash is None:
        unknown = isinstance(candidate.error, UnknownAlgorithm)
        status = Status.UNKNOWN_ALGORITHM if unknown else Status.FAIL
        return Verdict(status, str(candidate.error), None, candidate.tags)
    try:
        if body_hash not in digests:
            digests[body_hash] = body_hash.digest()
        _check_body(signature, body_hash, digests[body_hash])
        _check_fields(signature, headers)
        answer = await texts.txt(signature.key_name)
        if answer.failed:
            return Verdict(Status.TEMPORARY, "the key could not be looked up", signature, candidate.tags)
        _check_keys(signature, answer.records, _header_hash(signature, candidate.header, headers))
    except InvalidSignature as error:
        return Verdict(Status.FAIL, str(error), signature, candidate.tags)
    return Verdict(Status.PASS, None, signature, candidate.tags)


def _check_body(signature: Signature, body_hash: BodyHash, digest: bytes) -> None:
    if digest != signature.body_hash:
        raise InvalidSignature("the body was changed")
    if signature.length is not None and signature.length != body_hash.length:
        # Whoever appends to a message decides what is seen of it: what is not signed cannot speak for the signer (§8.2).
        raise InvalidSignature("the body is not signed to its end")


def _check_fields(signature: Signature, headers: Headers) -> None:
    """A second From, which readers may show, must not hide behind a signed one (§8.15)."""
    if headers.count("from") > signature.headers.count("from"):
        raise InvalidSignature("a From field is not signed")


def _header_hash(signature: Signature, own: Field, headers: Headers) -> bytes:
    digest = hashlib.sha256()
    algorithm = signature.header_canonicalization
    for header in select_fields(signature.headers, headers, own):
        digest.update(canonical_field(header, algorithm))
    value = without_signature(own.value)
    digest.update(canonical_header(own.name.encode() + own.gap, value, algorithm).removesuffix(b"\r\n"))
    return digest.digest()


def _check_keys(signature: Signature, records: tuple[bytes, ...], digest: bytes) -> None:
    """Raises InvalidSignature, with what is wrong with the last of the keys, when none of them fits."""
    error = InvalidSignature("no key")
    for record in records[:MAX_KEYS]:
        try:
            _check_key(signature, parse_key_record(record, signature), digest)
        except InvalidSignature as failure:
            error = failure
        else:
            return
    raise error


def _check_key(signature: Signature, record: KeyRecord, digest: bytes) -> None:
    key = _load_key(record.key_type, record.key)
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature.signature, digest, PKCS1v15(), _SHA256)
        else:
            key.verify(signature.signature, digest)
    except BadSignature:
        raise InvalidSignature("the signature does not fit the headers and the key") from None


@lru_cache(maxsize=1024)
def _load_key(key_type: str, key: bytes) -> RSAPublicKey | Ed25519PublicKey:
    if key_type == "ed25519":
        if len(key) != 32:
            raise InvalidSignature("the key is no Ed25519 key")
        return Ed25519PublicKey.from_public_bytes(key)
    try:
        loaded = serialization.load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSignature("the key cannot be read") from None
    if not isinstance(loaded, RSAPublicKey):
        raise InvalidSignature("the key is no RSA key")
    if not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
        raise InvalidSignature(f"an RSA key of {loaded.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    return loaded
