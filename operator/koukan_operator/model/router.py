"""The spec of a KoukanRouter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from koukan.config.router import (
    DnsConfig,
    GlobalConfig,
    ModulesConfig,
    RouterListenerConfig,
    SenderConfig,
    StorageConfig,
)
from koukan_operator.model.base import ResourceModel, same
from koukan_operator.model.secrets import DataKey, LocalRef, ObjectName, SecretFile
from koukan_operator.model.special import FORM, EndpointOptions
from koukan_operator.model.values import Duration, Quantity
from koukan_operator.model.workload import Workload

Name = Annotated[str, Field(min_length=1, max_length=253)]
#: what stands in a database's URL as it is
HostName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._:a-zA-Z0-9]+$")]
DatabaseName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[-._a-zA-Z0-9]+$")]
Url = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$")]


class Credentials(ResourceModel):
    """A Secret that holds a user and a password."""

    name: ObjectName
    """Name of the Secret."""
    username_key: DataKey = "username"
    """Key of the user name."""
    password_key: DataKey = "password"
    """Key of the password."""


class Database(ResourceModel):
    """The PostgreSQL that all replicas share."""

    url_secret_ref: SecretFile | None = None
    """Key that holds the URL postgresql://user:password@host:5432/database; CloudNativePG's Secret NAME-app, key uri."""
    host: HostName | None = None
    """Host name or address of the server."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Port of the server."""
    name: DatabaseName | None = None
    """Name of the database."""
    credentials_secret_ref: Credentials | None = None
    """User and password."""
    ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """TLS to the server, by libpq's names; default: prefer."""
    ca_secret_ref: SecretFile | None = None
    """Certificate authorities for verify-ca and verify-full (PEM)."""

    @model_validator(mode="after")
    def _one_form(self) -> Database:
        parts = (self.host, self.name, self.credentials_secret_ref)
        others = (*parts, self.ssl_mode, self.ca_secret_ref)
        if self.url_secret_ref is not None and any(part is not None for part in others):
            raise ValueError(
                "urlSecretRef says it all; leave host, name, credentialsSecretRef, sslMode and caSecretRef out"
            )
        if self.url_secret_ref is None and any(part is None for part in parts):
            raise ValueError("give urlSecretRef, or host, name and credentialsSecretRef")
        if self.ca_secret_ref is not None and self.ssl_mode not in ("verify-ca", "verify-full"):
            raise ValueError("caSecretRef needs sslMode verify-ca or verify-full")
        return self


class RestEndpoint(ResourceModel):
    """A named destination for routing: a gateway, a router, or an application."""

    name: Name
    """What `destination.endpoint` of a chain refers to."""
    gateway_ref: LocalRef | None = None
    """A KoukanGateway of this namespace; `tag` chooses one of its smtpOutput.hosts."""
    router_ref: LocalRef | None = None
    """A KoukanRouter of this namespace, this one included; `sender` says whose chain takes the mail."""
    url: Url | None = None
    """URL that transactions are POSTed to: an application, or a router elsewhere."""
    sender: Name | None = None
    """Sender name sent along; required except with gatewayRef."""
    tag: Name | None = None
    """Sender tag sent along."""
    ca_secret_ref: SecretFile | None = None
    """With url: certificate authorities to verify the server with (PEM); default: the system's."""
    verify: bool = True
    """With url: verify TLS certificates."""
    authorization_secret_ref: SecretFile | None = None
    """With url: value of the Authorization header, `Bearer …` for example; sent to the URL's own host only."""
    options: EndpointOptions = EndpointOptions()
    """What the destination receives."""

    @model_validator(mode="after")
    def _one_destination(self) -> RestEndpoint:
        if sum(kind is not None for kind in (self.gateway_ref, self.router_ref, self.url)) != 1:
            raise ValueError("give exactly one of gatewayRef, routerRef and url")
        if self.gateway_ref is None and self.sender is None:
            raise ValueError("sender is required with routerRef and url: it says who the mail is from")
        if self.gateway_ref is not None and self.tag is None:
            raise ValueError("tag is required with gatewayRef: it chooses one of the gateway's smtpOutput.hosts")
        if self.url is None and (self.ca_secret_ref is not None or not self.verify):
            raise ValueError(
                "caSecretRef and verify belong to url; Koukan's own Services are verified by their Secret's ca.crt"
            )
        if self.url is None and self.authorization_secret_ref is not None:
            raise ValueError("authorizationSecretRef belongs to url")
        return self


class Storage(ResourceModel):
    """How the database is used."""

    session_refresh_interval: Duration = same(StorageConfig, "session_refresh_interval")
    blob_tx_refresh_interval: Duration = same(StorageConfig, "blob_tx_refresh_interval")
    gc_interval: Duration = Field(default=300, gt=0)
    """How often finished transactions are collected."""
    gc_ttl: Duration = same(StorageConfig, "gc_ttl")
    cache_ttl: Duration = same(StorageConfig, "cache_ttl")


class RouterListener(ResourceModel):
    """The REST listener."""

    chunk_size: Quantity = same(RouterListenerConfig, "chunk_size")


class RouterSpec(Workload):
    """What the router is."""

    database: Database
    """The PostgreSQL that all replicas share."""
    senders: list[Annotated[SenderConfig, FORM]] = Field(default=[], max_length=256)
    """Principals: the REST paths /senders/<name>/transactions."""
    rest_endpoints: list[RestEndpoint] = Field(default=[], max_length=256)
    """Destinations that chains send to."""
    mailer_daemon_mailbox: str | None = Field(default=None, max_length=320)
    """From address of bounces; needed as soon as a chain sends notifications."""
    dns: Annotated[DnsConfig, FORM] = DnsConfig()
    """Name resolution."""
    storage: Storage = Storage()
    """How the database is used."""
    rest_listener: RouterListener = RouterListener()
    """The REST listener."""
    modules: Annotated[ModulesConfig, FORM] = ModulesConfig()
    """Plug-ins; their code comes with the image or a volume."""
    dequeue: bool = same(GlobalConfig, "dequeue")
    rest_id_entropy: int = same(GlobalConfig, "rest_id_entropy")
    max_inflight: int = same(GlobalConfig, "max_inflight")
    max_message_size: Quantity = same(GlobalConfig, "max_message_size")
    max_recipients: int = same(GlobalConfig, "max_recipients")
