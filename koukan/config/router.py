"""router.yaml as types (config.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from koukan.config.base import Address, Bytes, ConfigModel, PieceSize, Seconds
from koukan.config.filters import SINKS, Exploder, FilterItem, FilterOptions, RestOutput
from koukan.model import Sender


class DnsConfig(ConfigModel):
    """How names are resolved: by dns_resolution, spf_check, dkim_check and remote_host, with one cache for the process."""

    nameservers: list[str] = []
    """Addresses (`192.0.2.1` or `192.0.2.1:5353`) to ask instead of the system's."""
    timeout: Seconds = 5
    """Upper bound of one lookup, retries and all servers included."""
    cache_size: int = Field(default=10_000, ge=0)
    """Answers that the process keeps, as long as their TTL says; they are shared by all transactions."""


class GlobalConfig(ConfigModel):
    """Settings of the whole process."""

    rest_id_entropy: int = Field(default=16, ge=4, le=64, json_schema_extra={"x-unit": "bytes"})
    """Random part of a transaction id, so that ids cannot be guessed: who knows one may read and cancel the transaction."""
    dequeue: bool = True
    """Take queued mail from the database; false: this replica serves only its own fresh transactions."""
    mailer_daemon_mailbox: str | None = None
    """From address of bounces; absent: mailer-daemon at this host's name, with a warning when a chain sends notifications."""
    dns: DnsConfig = DnsConfig()
    """Name resolution."""
    drain_timeout: Seconds = 60
    """How long a stopping process lets messages in flight finish before it ends them."""
    max_inflight: int = Field(default=2000, ge=1)
    """Transactions in memory; above that new ones are answered 503 with Retry-After, so that memory stays bounded."""
    max_message_size: Bytes = 100 * 1024 * 1024
    """Largest body; an upload that is larger is answered 413, which SMTP clients see as 552."""
    max_recipients: int = Field(default=1000, ge=1)
    """Recipients of one transaction; those beyond are answered 452 (RFC 5321 §4.5.3.1.8 asks for at least 100)."""
    spool_directory: str | None = None
    """Where bodies above 64 KiB are buffered; default: the system's temporary directory."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"executor", "gc_interval", "tx_idle_timeout"})


class RouterListenerConfig(ConfigModel):
    """The REST listener of a router. It knows no passwords: let in whom you trust, by network policy or a proxy."""

    addr: Address
    """Address to listen on."""
    cert: str | None = None
    """Certificate chain (PEM); with `key`: TLS."""
    key: str | None = None
    """Private key (PEM)."""
    session_uri: str
    """Base URL of this replica: unique, reachable from clients and the other replicas, who are redirected to it."""
    service_uri: str | None = None
    """Base URL of all replicas together, for what any of them can serve; default: session_uri."""
    chunk_size: PieceSize = 256 * 1024
    """Slice of an upload that is stored at a time, and that each upload takes in memory."""


class StorageConfig(ConfigModel):
    """The database: PostgreSQL, shared by all replicas, or SQLite for one process. Exactly one of url and url_file."""

    url: str | None = None
    """`postgresql://…` or `sqlite:///path`; the driver part of existing files is understood."""
    url_file: str | None = None
    """File that holds the URL, so that a password need not be in this one."""
    session_refresh_interval: Seconds = Field(default=30, gt=0)
    """Heartbeat of this process. It stops working when five in a row have failed; after ten the others take its work over."""
    blob_tx_refresh_interval: Seconds = 10
    """During an upload, count it as activity at most this often."""
    gc_interval: Seconds | None = None
    """How often finished transactions are deleted; absent: never, and the database grows without end."""
    gc_ttl: Seconds = 86_400
    """Age at which a finished, or never completed, transaction is deleted."""
    cache_ttl: Seconds = 5
    """How long a finished transaction stays in memory, so that its client reads the outcome without the database."""

    @model_validator(mode="after")
    def _one_url(self) -> StorageConfig:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give exactly one of url and url_file")
        return self


OutputChainSwitch = Literal["output_chain"] | None


class TagConfig(ConfigModel):
    """A role of a sender, chosen by `sender.tag` of the create request. A key that stands here overrides the sender's."""

    name: str
    """Name of the tag, or of the sender: the URL path element."""
    output_chain: str | None = None
    """The output chain (endpoint) of its transactions."""
    retry: OutputChainSwitch = None
    """`output_chain`: retry as the chain says; null: never."""
    notification: OutputChainSwitch = None
    """`output_chain`: bounce as the chain says; null: never."""
    upstream_sender: str | None = None
    """Exploder: sender of the per-recipient transactions."""
    upstream_tag: str | None = None
    """Exploder: tag of the per-recipient transactions."""
    remote_host: str | None = None
    """As a destination: host that replaces the client's address."""
    smtp_meta: dict[str, Any] | None = None
    """As a destination: replaces what is known of the SMTP conversation."""


class SenderConfig(TagConfig):
    """Who brings mail: `POST /senders/<name>/transactions`. It says which chain the mail goes through."""

    tag: list[TagConfig] | None = None
    """Roles. With a list, other tags are refused; without one any tag is accepted."""


class RestEndpoint(ConfigModel):
    """A named destination for routing: a gateway, a router or an application."""

    name: str
    """What `destination.endpoint` refers to."""
    endpoint: str | None = None
    """URL that transactions are POSTed to."""
    sender: str | None = None
    """Sender name sent along; without it the destination takes no mail."""
    tag: str | None = None
    """Sender tag sent along."""
    options: dict[str, Any] = {}
    """`receive_parsing: {max_inline: bytes}`: send the MIME parsed; `send_filter_output: true`: send what filters learned."""
    verify: bool | str | None = None
    """Verify TLS certificates: true, false, or a CA file; absent: as rest_output says."""
    authorization_file: str | None = None
    """File with the value of the Authorization header (`Bearer …`), read at start; it goes to the host of `endpoint` only."""


class RetryParams(ConfigModel):
    """When a temporary failure is tried again. Each wait grows with the age of the message; the first limit reached ends it."""

    max_attempts: int | None = Field(default=30, ge=1)
    """Attempts in all in which a next hop was asked, the first included; null: no limit."""
    min_attempt_time: Seconds = 60
    """Shortest wait between attempts."""
    max_attempt_time: Seconds = 3600
    """Longest wait between attempts."""
    backoff_factor: float = Field(default=1.5, ge=0)
    """The wait is the message's age times this, within the bounds above."""
    deadline: Seconds | None = 86_400
    """Age at which trying ends, and the sender is told; null: no limit."""
    bug_retry: Seconds = 3600
    """Wait after an internal error, in place of the above: somebody has to mend the program first."""
    jitter: float = Field(default=0.1, ge=0, le=1)
    """Random share added to each wait, so that a burst of failures does not come back as a burst."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"mode"})


class NotificationConfig(ConfigModel):
    """As whom bounces go in: through that sender's chain, like any other mail, from the null reverse-path."""

    sender: str
    """Sender of the bounce."""
    tag: str | None = None
    """Tag of that sender."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"host"})


class OutputHandlerConfig(ConfigModel):
    """What happens around the attempts of a chain."""

    downstream_timeout: Seconds = 60
    """End the attempt when an incomplete transaction hears nothing from its client for so long."""
    upstream_refresh: Seconds = 30
    """Heartbeat to the next hop while nothing else is sent."""
    retry_params: RetryParams = RetryParams()
    """Retry policy."""
    notification: NotificationConfig | None = None
    """Where bounces go in."""


class ChainConfig(ConfigModel):
    """An output chain: filters in order, the last one a sink."""

    name: str
    """What senders refer to."""
    msa: bool = False
    """Mail comes from its author's client: accept and queue what fails temporarily."""
    chain: list[FilterItem] = Field(min_length=1)
    """The filters."""
    output_handler: OutputHandlerConfig = OutputHandlerConfig()
    """Retries, bounces, timeouts."""

    @model_validator(mode="before")
    @classmethod
    def _published_form(cls, data: Any) -> Any:
        """The published page writes retry_params and notification beside the chain; they belong to its output_handler."""
        if not isinstance(data, dict):
            return data
        moved = {k: data[k] for k in ("retry_params", "notification") if k in data}
        if not moved:
            return data
        handler = data.get("output_handler") or {}
        rest = {k: v for k, v in data.items() if k not in moved}
        return {**rest, "output_handler": {**moved, **handler}} if isinstance(handler, dict) else data

    @property
    def sink(self) -> FilterOptions:
        return self.chain[-1]

    @property
    def interactive(self) -> bool:
        """Takes recipients one by one: its last filter is the exploder."""
        return isinstance(self.sink, Exploder)

    @property
    def exploder_is_msa(self) -> bool:
        return isinstance(self.sink, Exploder) and (self.msa if self.sink.msa is None else self.sink.msa)

    @property
    def goes_by_route(self) -> bool:
        """Mail goes where a router filter says: the sink has no destination of its own."""
        return isinstance(self.sink, RestOutput) and self.sink.static_endpoint is None

    def sinks_before_the_end(self) -> list[int]:
        """Positions of sinks that would end the chain too early."""
        return [i for i, item in enumerate(self.chain[:-1]) if isinstance(item, SINKS)]


class ModulesConfig(ConfigModel):
    """Plug-ins: `name: package.module` or `package.module:function`. They are imported at start; errors there stop it."""

    sync_filter: dict[str, str] = {}
    """Filters; default function `factory`."""
    recipient_router_policy: dict[str, str] = {}
    """Routing policies; default function `factory`."""
    transaction_matcher: dict[str, str] = {}
    """Matchers; default function `match`."""


class AdminListenerConfig(ConfigModel):
    """Metrics for Prometheus, apart from mail, so that they can have a network policy of their own. Plain HTTP."""

    addr: Address
    """Address to listen on; serves /metrics, /healthz and /readyz."""


class RouterConfig(ConfigModel):
    """router.yaml."""

    global_: GlobalConfig = Field(default=GlobalConfig(), alias="global")
    """Settings of the whole process."""
    rest_listener: RouterListenerConfig
    """Where clients, gateways and other routers come in."""
    admin_listener: AdminListenerConfig | None = None
    """Where Prometheus comes in."""
    storage: StorageConfig
    """The database."""
    sender: list[SenderConfig] = []
    """Principals."""
    rest_endpoint: list[RestEndpoint] = []
    """Destinations."""
    endpoint: list[ChainConfig] = []
    """Output chains."""
    modules: ModulesConfig = ModulesConfig()
    """Plug-ins."""
    logging: dict[str, Any] | None = None
    """logging.config.dictConfig document."""

    def chain(self, name: str) -> ChainConfig | None:
        return next((c for c in self.endpoint if c.name == name), None)


@dataclass(frozen=True, slots=True)
class EffectiveSender:
    """A sender with its tag's overrides applied."""

    sender: Sender
    output_chain: str | None
    retry: bool
    notification: bool
    #: as whom an exploder makes its per-recipient transactions
    upstream: Sender
    remote_host: str | None
    smtp_meta: dict[str, Any] | None

    @classmethod
    def of(cls, config: SenderConfig, tag: str | None) -> EffectiveSender | None:
        """None when the sender has a list of tags and this is not one of them. No tag at all is the sender itself."""
        override = next((t for t in config.tag or () if t.name == tag), None)
        if override is None and tag is not None and config.tag is not None:
            return None

        def value(key: str) -> Any:
            if override is not None and key in override.model_fields_set:
                return getattr(override, key)
            return getattr(config, key)

        return cls(
            sender=Sender(config.name, tag),
            output_chain=value("output_chain"),
            retry=value("retry") is not None,
            notification=value("notification") is not None,
            upstream=Sender(value("upstream_sender") or config.name, value("upstream_tag") or tag),
            remote_host=value("remote_host"),
            smtp_meta=value("smtp_meta"),
        )
