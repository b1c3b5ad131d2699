"""Private keys for signing, from PEM files that may be replaced while we run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from koukan.errors import ConfigError

logger = logging.getLogger("koukan.dkim")

#: seconds between looks at the file of a signing key, so that a new one is taken over without a restart
CHECK_INTERVAL = 5.0
#: bits of an RSA key to sign with: shorter ones are refused (RFC 8301 §3.2)
MIN_RSA_BITS = 1024
#: bits of an RSA key to sign with: shorter ones are warned of (RFC 8301 §3.2)
RECOMMENDED_RSA_BITS = 2048

_SHA256 = Prehashed(hashes.SHA256())


class SigningKey:
    """A private key, RSA or Ed25519."""

    def __init__(self, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self._key, RSAPrivateKey) else "ed25519-sha256"

    @property
    def slow(self) -> bool:
        """A signature takes longer than the event loop should stand still."""
        return isinstance(self._key, RSAPrivateKey) and self._key.key_size > RECOMMENDED_RSA_BITS

    def sign(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest (RFC 8463 §3 signs the digest, too)."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, PKCS1v15(), _SHA256)
        return self._key.sign(digest)


class KeyFile:
    """The key in a PEM file. A file that became unusable leaves the last good key in use, and a line in the log."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the file. Raises ConfigError, which names it."""
        self._path = Path(path)
        self._clock = clock
        self._checked = clock()
        self._version = self._stat()
        self._key = load_key(path)

    def get(self) -> SigningKey:
        """The key as the file has it, or had it some seconds ago."""
        if self._clock() - self._checked >= CHECK_INTERVAL:
            self._checked = self._clock()
            version = self._stat()
            if version != self._version:
                self._version = version
                self._reload()
        return self._key

    def _reload(self) -> None:
        try:
            self._key = load_key(str(self._path))
        except ConfigError as error:
            logger.error("%s; the key that was read before stays in use", error)
        else:
            logger.info("%s: read again", self._path)

    def _stat(self) -> tuple[int, int, int] | None:
        # A Secret that is mounted changes by another file under the same name.
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def load_key(path: str) -> SigningKey:
    """Read a private key. Raises ConfigError."""
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; dkim_sign needs a PEM file with a private key") from None
    except TypeError:
        raise ConfigError(f"{path}: the key is protected by a password; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: no private key in PEM form; make one with `openssl genrsa 2048`") from None
    if isinstance(key, RSAPrivateKey):
        _check_size(path, key.key_size)
    elif not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: a key of this kind cannot sign DKIM; use RSA or Ed25519")
    return SigningKey(key)


def _check_size(path: str, bits: int) -> None:
    if bits < MIN_RSA_BITS:
        raise ConfigError(f"{path}: an RSA key of {bits} bits; verifiers accept none below {MIN_RSA_BITS}, use 2048")
    if bits < RECOMMENDED_RSA_BITS:
        logger.warning("%s: an RSA key of %d bits is weak, use %d", path, bits, RECOMMENDED_RSA_BITS)
