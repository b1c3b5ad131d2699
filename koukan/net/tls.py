"""TLS contexts (TLS 1.2 and later), with errors that name the file."""

from __future__ import annotations

import asyncio
import ssl

from koukan.errors import ConfigError


def server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The context of a listener; None without a certificate. Raises ConfigError."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError(f"cert and key go together, {'cert' if cert is None else 'key'} is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise ConfigError(f"cert {cert} and key {key}: {error.reason or error}") from None
    except OSError as error:
        raise ConfigError(f"cert {cert} or key {key} cannot be read: {error.strerror}") from None
    return context


def client_context(*, verify: bool, ca_file: str | None = None) -> ssl.SSLContext:
    """The context of a client. Without `verify` it encrypts and asks no questions. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connection_details(transport: asyncio.BaseTransport) -> dict[str, object] | None:
    """Protocol version and cipher suite of a connection, as smtp_meta has them; None in clear."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    cipher = None if tls is None else tls.cipher()
    return None if tls is None or cipher is None else {"tls_version": tls.version(), "tls_cipher": cipher[0]}
