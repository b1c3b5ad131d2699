"""dkim_sign: prepends DKIM signatures (koukan.auth.dkim), by the keys of the From header's domain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

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

logger = logging.getLogger("koukan.chain")

_OVERLOADED = Response(451, "4.3.2 too busy to sign, try again later")


class Choice(NamedTuple):
    """The signers of a message; `trouble` says why there are none, or why their domain is not that of From."""

    signers: Sequence[Signer] = ()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Keyring:
    """Signers by domain, in A-labels; `default` signs what no domain fits."""

    by_domain: dict[str, tuple[Signer, ...]]
    default: tuple[Signer, ...] = ()

    def choose(self, headers: Headers) -> Choice:
        """Those of the longest domain that the first address of From is in; nothing signs a message without From."""
        if not headers.count("from"):
            return Choice((), "it has no From header")
        authors = header_from(headers)
        domain = (authors and ascii_domain(authors[0].domain)) or ""
        labels = domain.split(".")
        for i in range(len(labels)):
            found = self.by_domain.get(".".join(labels[i:]))
            if found:
                return Choice(found)
        return Choice(
            self.default, f"no key is for the domain of its From, {domain!r}" if domain else "its From is no address"
        )


class DkimSignFilter(Filter):
    """A message that cannot be signed in alignment with its From is refused, or goes on with a log line."""

    reads_message = True

    def __init__(self, keyring: Keyring, now: Callable[[], datetime], when_unsignable: str | None) -> None:
        self._keyring = keyring
        self._now = now
        self._when_unsignable = when_unsignable

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        choice = Choice()
        body_hash = new_body_hash()

        def choose(headers: Headers) -> list[BodyHash]:
            nonlocal choice
            choice = self._keyring.choose(headers)
            return [body_hash] if choice.signers else []

        try:
            headers = await read_message(body, choose)
            if choice.trouble is not None and (refusal := self._judge(tx, choice)) is not None:
                return refusal
            if not choice.signers:
                return None
            digest, timestamp = body_hash.digest(), int(self._now().timestamp())
            fields = [await signer.sign(headers, digest, timestamp) for signer in choice.signers]
        except Overloaded:
            return _OVERLOADED
        return ConcatBody.prepend(b"".join(fields), body)

    def _judge(self, tx: Transaction, choice: Choice) -> Response | None:
        """What is answered to a message without an aligned signature; None: it goes on."""
        # A bounce that is refused would be lost, with the news of the message that it is about.
        tolerated = bool(choice.signers) or (tx.mail_from is not None and not tx.mail_from.address)
        rejected = self._when_unsignable == "reject" or (self._when_unsignable is None and not tolerated)
        done = "refused" if rejected else "signed for another domain" if choice.signers else "sent unsigned"
        logger.warning("%s: %s by dkim_sign: %s", tx.id, done, choice.trouble)
        return Response(550, f"5.7.1 the message cannot be signed: {choice.trouble} (dkim_sign)") if rejected else None


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
    return DkimSignFilter(Keyring(by_domain, default), context.now, options.when_unsignable)


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
