"""The files of a development stack: its configurations, a certificate that nobody trusts, one user."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from koukan.dev.output import make_directory

#: the one user of the submission ports, and its password
USER = "koukan"
#: certificates are made anew with the directory; a year outlives any of them
_CERTIFICATE_DAYS = 365


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens: the ports of the sample topology (config.md)."""

    router: int = 8000
    gateway: int = 8001
    receiver: int = 8002
    sink: int = 3025
    mx: int = 1025
    msa: int = 1587
    smtps: int = 1465

    def shifted(self, offset: int) -> Ports:
        """All of them, `offset` higher: for a second stack on one machine."""
        return Ports(**{f.name: getattr(self, f.name) + offset for f in fields(self)})


def configuration(name: str) -> Path:
    """`router.yaml` or `gateway.yaml` of the stack."""
    return Path(__file__).with_name(name)


def environment(directory: Path, ports: Ports) -> dict[str, str]:
    """The variables that the configurations refer to."""
    return {f"{f.name.upper()}_PORT": str(getattr(ports, f.name)) for f in fields(ports)} | {
        "DIRECTORY": str(directory)
    }


def write_configuration(name: str, directory: Path, ports: Ports) -> Path:
    """Write the configuration that a program of the stack runs with to `directory`, its variables filled in."""
    values = environment(directory, ports)
    text = re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), configuration(name).read_text("utf-8"))
    file = directory / name
    file.write_text(f"# What runs here, written anew at each start from {name} of koukan dev.\n{text}", "utf-8")
    return file


def prepare(directory: Path) -> None:
    """Make the directory and what the configurations expect in it."""
    make_directory(directory)
    digest = hashlib.sha256(USER.encode()).hexdigest()
    (directory / "users.json").write_text(json.dumps({USER: digest}))
    if not (directory / "tls.key").exists():
        _make_certificate(directory)


def _make_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
