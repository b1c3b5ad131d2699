"""dkim_sign: prepends DKIM signatures (koukan.auth.dkim), by the keys of the From header's domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from koukan.auth.dkim.canonical import BodyHash
from koukan.auth.dkim.hashing import read_message
from koukan.auth.dkim.keys import KeyFile
from koukan.auth.dkim.sign import Signer, new_body_hash
from koukan.blob.bodies import ConcatBody
from koukan.chain.filter import Context, Filter
from koukan.chain.transaction import Transaction
from koukan.config.filters import DkimKey, DkimSign
from koukan.errors import ConfigError, Overloaded
from koukan.message.address import ascii_domain, parse_address
from koukan.message.headers import Headers, header_from
from koukan.model import Body, Response

_OVERLOADED = Response(451, "4.3.2 too busy to sign, try again later")


@dataclass(frozen=True, slots=True)
class Keyring:
    """Signers by domain, in A-labels; `default` signs what no domain fits."""

    by_domain: dict[str, tuple[Signer, ...]]
    default: tuple[Signer, ...] = ()

    def choose(self, headers: Headers) -> tuple[Signer, ...]:
        """Those of the longest domain that the first address of From is in; nothing signs a message without From."""
        if not headers.count("from"):
            return ()
        authors = header_from(headers)
        domain = (authors and ascii_domain(authors[0].domain)) or ""
        labels = domain.split(".")
        for i in range(len(labels)):
            found = self.by_domain.get(".".join(labels[i:]))
            if found:
                return found
        return self.default


class DkimSignFilter(Filter):
    """A message that no key is for goes on as it is."""

    reads_message = True

    def __init__(self, keyring: Keyring, now: Callable[[], datetime]) -> None:
        self._keyring = keyring
        self._now = now

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        signers: Sequence[Signer] = ()
        body_hash = new_body_hash()

        def choose(headers: Headers) -> list[BodyHash]:
            nonlocal signers
            signers = self._keyring.choose(headers)
            return [body_hash] if signers else []

        try:
            headers = await read_message(body, choose)
            if not signers:
                return None
            digest, timestamp = body_hash.digest(), int(self._now().timestamp())
            fields = [await signer.sign(headers, digest, timestamp) for signer in signers]
        except Overloaded:
            return _OVERLOADED
        return ConcatBody.prepend(b"".join(fields), body)


def build(options: DkimSign, context: Context) -> DkimSignFilter | None:
    """None without keys. Raises ConfigError, which names the file, for a key that cannot sign."""
    if not options.all_keys:
        return None
    by_domain: dict[str, tuple[Signer, ...]] = {}
    for key in options.all_keys:
        signer = _signer(key)
        by_domain[signer.domain] = (*by_domain.get(signer.domain, ()), signer)
    # The one key of old configurations signs whatever comes.
    default = () if options.key is None else by_domain[next(iter(by_domain))][:1]
    return DkimSignFilter(Keyring(by_domain, default), context.now)


def _signer(key: DkimKey) -> Signer:
    domain = ascii_domain(key.domain.lower())
    if domain is None or parse_address(f"x@{domain}") is None or domain.startswith("["):
        raise ConfigError(f"dkim_sign: domain {key.domain!r} is no domain name")
    if parse_address(f"x@{key.selector}") is None or not key.selector.isascii():
        raise ConfigError(f"dkim_sign: selector {key.selector!r} is no part of a domain name")
    try:
        return Signer(domain, key.selector, KeyFile(key.key))
    except ConfigError as error:
        raise ConfigError(f"dkim_sign: {error}") from None
