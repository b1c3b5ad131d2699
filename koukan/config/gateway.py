"""gateway.yaml as types (config.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from koukan.config.base import Address, Bytes, ConfigModel, PieceSize, Seconds
from koukan.config.loader import Problem, suggest
from koukan.config.router import AdminListenerConfig


class GatewayGlobalConfig(ConfigModel):
    """Settings of the whole process."""

    drain_timeout: Seconds = 60
    """How long a stopping process lets messages in flight finish before it ends them."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"executor"})


class GatewayListenerConfig(ConfigModel):
    """The REST listener of a gateway: where routers come in."""

    addr: Address
    """Address to listen on."""
    cert: str | None = None
    """Certificate chain (PEM); with `key`: TLS."""
    key: str | None = None
    """Private key (PEM)."""
    session_uri: str
    """Base URL of this process, reachable from the routers."""
    rest_id_entropy: int = Field(default=16, ge=4, le=64, json_schema_extra={"x-unit": "bytes"})
    """Random part of a transaction id, so that ids cannot be guessed."""
    gc_interval: Seconds = Field(default=5, gt=0)
    """How often transactions are looked at, whether they are idle or done."""
    gc_tx_ttl: Seconds = 600
    """Idle time after which an unfinished transaction is cancelled and forgotten."""
    gc_done_ttl: Seconds = 120
    """How long a finished transaction can still be read: a router that heard no answer asks within 35 s, and then again."""
    chunk_size: PieceSize = 256 * 1024
    """Slice of an upload that is handed on at a time, and that each upload takes in memory."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"gc_blob_ttl"})


class SmtpTlsConfig(ConfigModel):
    """TLS towards SMTP servers. `may` keeps mail flowing to servers with any certificate or none (RFC 7435)."""

    mode: Literal["none", "may", "encrypt", "verify"] = "may"
    """none: never; may: when offered, unverified; encrypt: required, unverified; verify: required, name verified."""
    ca_file: str | None = None
    """Certificate authorities for `verify` (PEM); default: the system's."""


class SmtpHostConfig(ConfigModel):
    """How mail of one tag goes out."""

    ehlo_host: str
    """Our name in EHLO."""
    timeout: Seconds = 3300
    """Upper bound of connecting and of every command, on top of the limits of RFC 5321 §4.5.3.2 for each stage."""
    protocol: Literal["smtp", "lmtp"] = "smtp"
    """Protocol of the servers."""
    enable_bdat: bool = False
    """Send with BDAT to servers that offer CHUNKING (RFC 3030)."""
    chunk_size: PieceSize = 65_536
    """Size of the slices a body is sent in."""
    tls: SmtpTlsConfig = SmtpTlsConfig()
    """TLS policy."""


class SmtpOutputConfig(ConfigModel):
    """REST to SMTP: how mail goes out."""

    hosts: dict[str, SmtpHostConfig] = {}
    """By the sender tag that selects it."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"use_system_smtplib"})


class LimitsConfig(ConfigModel):
    """What a listener bears. Everything over a limit gets its proper reply."""

    max_connections: int = Field(default=1000, ge=1)
    """Connections in all; the next one is answered 421, so that those inside are served well."""
    max_connections_per_ip: int = Field(default=100, ge=1)
    """Connections of one client address; 421 above, so that one client cannot take them all."""
    max_recipients: int = Field(default=1000, ge=1)
    """Recipients of one message; the next one is answered 452 (RFC 5321 §4.5.3.1.10)."""
    max_message_size: Bytes = 33_554_432
    """Bytes of one message; 552 above."""
    command_timeout: Seconds = 300
    """How long a client may be silent between commands (RFC 5321 §4.5.3.2.7)."""
    data_timeout: Seconds = 180
    """How long a client may be silent within a message (RFC 5321 §4.5.3.2.5)."""


class SmtpServiceConfig(ConfigModel):
    """One SMTP listener. With `cert` and `key` it offers STARTTLS; with `smtps` as well it is TLS from the first byte."""

    addr: Address
    """Address to listen on."""
    endpoint: str
    """Name of the `rest_output` that takes its mail."""
    sender: str
    """Sender that its transactions run as."""
    tag: str | None = None
    """Tag of that sender."""
    rcpt_timeout: Seconds = 40
    """How long MAIL and RCPT wait for the router; 450 then."""
    data_timeout: Seconds = 310
    """How long the end of data waits for the router; 451 then."""
    cert: str | None = None
    """Certificate chain (PEM); with `key`: STARTTLS, or implicit TLS with `smtps`."""
    key: str | None = None
    """Private key (PEM)."""
    smtps: bool = False
    """TLS from the first byte; without a certificate the listener is plain."""
    auth_secrets: str | None = None
    """JSON file `{user: hex sha256 of the password}`; enables AUTH PLAIN and LOGIN under TLS."""
    proxy_protocol_timeout: Seconds | None = None
    """Seconds to wait for a PROXY header (HAProxy, v1 or v2); absent: no PROXY protocol."""
    delay_reject: bool = True
    """Hold the verdict on MAIL until the first RCPT, as Postfix does: one exchange with the router carries both."""
    limits: LimitsConfig = LimitsConfig()
    """Bounds of this listener."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"enable_bdat", "chunk_size"})

    @model_validator(mode="after")
    def _pair(self) -> SmtpServiceConfig:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self


class SmtpListenerConfig(ConfigModel):
    """SMTP to REST: how mail comes in."""

    services: list[SmtpServiceConfig] = []
    """The listeners."""


class RestOutputConfig(ConfigModel):
    """A router that takes mail from listeners. How long answers may take is set by the listener."""

    name: str
    """What `services[].endpoint` refers to."""
    endpoint: str
    """URL that creates transactions: `http://router/senders/<sender>/transactions`."""
    verify: bool | str = True
    """Verify TLS certificates: true, false, or a CA file."""
    chunk_size: PieceSize | None = None
    """Upload bodies in ranged chunks of this size; absent: one request."""
    refresh_interval: Seconds = Field(default=30, gt=0)
    """Heartbeat to the router while the SMTP client is silent."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"rcpt_timeout", "data_timeout"})  # the listener's hold


class GatewayConfig(ConfigModel):
    """gateway.yaml."""

    global_: GatewayGlobalConfig = Field(default=GatewayGlobalConfig(), alias="global")
    """Settings of the whole process."""
    rest_listener: GatewayListenerConfig
    """Where routers come in."""
    admin_listener: AdminListenerConfig | None = None
    """Where Prometheus comes in."""
    smtp_output: SmtpOutputConfig = SmtpOutputConfig()
    """How mail goes out."""
    smtp_listener: SmtpListenerConfig = SmtpListenerConfig()
    """Where mail comes in."""
    rest_output: list[RestOutputConfig] = []
    """Routers."""
    logging: dict[str, Any] | None = None
    """logging.config.dictConfig document."""


def check_gateway(config: GatewayConfig) -> tuple[list[Problem], list[Problem]]:
    """Problems that must not start, and remarks worth a warning."""
    return list(_problems(config)), list(_remarks(config))


def _problems(config: GatewayConfig) -> Iterator[Problem]:
    names = [output.name for output in config.rest_output]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(
                ("rest_output", index, "name"), f"there is another rest_output {name!r}; names must be unique"
            )
    seen: set[tuple[str, int]] = set()
    for index, service in enumerate(config.smtp_listener.services):
        path = ("smtp_listener", "services", index)
        if service.endpoint not in names:
            hint = suggest(service.endpoint, names) or f"; there are: {', '.join(names) or 'none'}"
            yield Problem((*path, "endpoint"), f"there is no rest_output {service.endpoint!r}{hint}")
        if service.addr in seen and service.addr.port:
            yield Problem((*path, "addr"), f"another service listens on {service.addr} already")
        seen.add(service.addr)


def _remarks(config: GatewayConfig) -> Iterator[Problem]:
    for index, service in enumerate(config.smtp_listener.services):
        path = ("smtp_listener", "services", index)
        if service.smtps and service.cert is None:
            yield Problem((*path, "smtps"), "without cert and key this listener is plain SMTP")
        if service.auth_secrets is not None and service.cert is None:
            yield Problem((*path, "auth_secrets"), "AUTH is offered under TLS only, and there is no cert")
