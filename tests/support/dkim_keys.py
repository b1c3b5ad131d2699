"""Key pairs for DKIM tests: a PEM file to sign with, and the record that belongs into DNS."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True)
class KeyPair:
    """A private key in PEM form and the tags of its key record."""

    pem: bytes
    record: str

    def write(self, path: Path) -> str:
        path.write_bytes(self.pem)
        return str(path)

    def zone(self, domain: str, selector: str) -> str:
        """The line of a test zone."""
        strings = " ".join(f'"{self.record[i : i + 200]}"' for i in range(0, len(self.record), 200))
        return f"{selector}._domainkey.{domain} TXT {strings}\n"


def rsa_key(bits: int = 2048) -> KeyPair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return KeyPair(pem, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}")


def ed25519_key() -> KeyPair:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(pem, f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}")
