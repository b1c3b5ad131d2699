"""The spec of a KoukanGateway."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from koukan.config.gateway import (
    GatewayListenerConfig,
    LimitsConfig,
    RestOutputConfig,
    SmtpHostConfig,
    SmtpServiceConfig,
)
from koukan_operator.model.base import ResourceModel, same
from koukan_operator.model.router import Name, Url
from koukan_operator.model.secrets import LocalRef, SecretFile
from koukan_operator.model.special import FORM
from koukan_operator.model.values import Duration, Quantity
from koukan_operator.model.workload import StringMap, Tls, Workload

#: RFC 1035: what a port or a part of a Service's name may be called
PortName = Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]


#: a network as a Service takes it
Cidr = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")]


class ListenerTls(Tls):
    """The certificate of an SMTP listener."""

    implicit: bool = False
    """TLS from the first byte (RFC 8314), in place of STARTTLS."""


class Auth(ResourceModel):
    """Who may log in."""

    secret_ref: SecretFile
    """JSON object {user: hex sha256 of the password}."""


class ProxyProtocol(ResourceModel):
    """The load balancer says who the client is (HAProxy's PROXY protocol, v1 or v2)."""

    timeout: Duration = Field(default=5, gt=0)
    """How long to wait for the header."""


class RestOutput(ResourceModel):
    """How a listener talks to its router."""

    chunk_size: Quantity | None = same(RestOutputConfig, "chunk_size")
    refresh_interval: Duration = same(RestOutputConfig, "refresh_interval")


class Listener(ResourceModel):
    """An SMTP listener."""

    name: PortName
    """Name of the listener and of its Service port."""
    port: int = Field(ge=1, le=65535)
    """Port of the Service; in the pod, ports below 1024 are 10000 higher."""
    node_port: int | None = Field(default=None, ge=1, le=65535)
    """Port on the nodes, with a Service of type NodePort or LoadBalancer; default: one that is free."""
    router_ref: LocalRef | None = None
    """A KoukanRouter of this namespace that takes the mail."""
    url: Url | None = None
    """A router elsewhere: https://host/senders/<sender>/transactions."""
    ca_secret_ref: SecretFile | None = None
    """With url: certificate authorities to verify the router with (PEM); default: the system's."""
    verify: bool = True
    """With url: verify TLS certificates."""
    sender: Name
    """Sender that the mail runs as."""
    tag: Name | None = None
    """Tag of that sender."""
    tls: ListenerTls | None = None
    """STARTTLS, or implicit TLS."""
    auth: Auth | None = None
    """AUTH PLAIN and LOGIN, offered under TLS only."""
    proxy_protocol: ProxyProtocol | None = None
    """Only behind a load balancer that speaks it: whoever connects may say who they are."""
    limits: Annotated[LimitsConfig, FORM] = LimitsConfig()
    """Bounds of this listener."""
    rcpt_timeout: Duration = same(SmtpServiceConfig, "rcpt_timeout")
    data_timeout: Duration = same(SmtpServiceConfig, "data_timeout")
    delay_reject: bool = same(SmtpServiceConfig, "delay_reject")
    rest_output: RestOutput = RestOutput()
    """How the listener talks to its router."""

    @property
    def target_port(self) -> int:
        """The port in the pod, which runs without the right to take those below 1024."""
        return self.port if self.port >= 1024 else self.port + 10_000

    @model_validator(mode="after")
    def _complete(self) -> Listener:
        if (self.router_ref is None) == (self.url is None):
            raise ValueError("give exactly one of routerRef and url")
        if self.url is None and (self.ca_secret_ref is not None or not self.verify):
            raise ValueError("caSecretRef and verify belong to url; a KoukanRouter is verified by its Secret's ca.crt")
        if self.auth is not None and self.tls is None:
            raise ValueError("auth needs tls: passwords are taken under TLS only")
        return self


class SmtpOutput(ResourceModel):
    """Mail from routers to SMTP servers."""

    hosts: list[Annotated[SmtpHostConfig, FORM]] = Field(default=[], max_length=64)
    """Ways out; the tag of a router's restEndpoint chooses one by name."""


class SmtpService(ResourceModel):
    """The Service of SMTP listeners."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the Service is reached."""
    external_traffic_policy: Literal["Cluster", "Local"] = "Local"
    """Local keeps the client's address, which SPF and limits per address need. Not used with ClusterIP."""
    annotations: StringMap = {}
    """Annotations, which many clouds configure load balancers by."""
    load_balancer_class: str | None = Field(default=None, max_length=253)
    """Implementation of the load balancer."""
    load_balancer_source_ranges: list[Cidr] = Field(default=[], max_length=256)
    """Networks that may connect, `192.0.2.0/24`; default: everybody."""

    @model_validator(mode="after")
    def _of_a_load_balancer(self) -> SmtpService:
        given = self.load_balancer_class is not None or self.load_balancer_source_ranges
        if given and self.type != "LoadBalancer":
            raise ValueError(
                "loadBalancerClass and loadBalancerSourceRanges need type LoadBalancer; nothing else heeds them"
            )
        return self


class ServiceGroup(SmtpService):
    """A Service of its own for some listeners."""

    name: PortName
    """The Service is called <gateway>-<name>."""
    listeners: list[PortName] = Field(min_length=1, max_length=16)
    """Listeners that it serves, in place of the gateway's main Service."""


class GatewayListener(ResourceModel):
    """The REST listener, where routers come in."""

    rest_id_entropy: int = same(GatewayListenerConfig, "rest_id_entropy")
    gc_interval: Duration = same(GatewayListenerConfig, "gc_interval")
    gc_tx_ttl: Duration = same(GatewayListenerConfig, "gc_tx_ttl")
    gc_done_ttl: Duration = same(GatewayListenerConfig, "gc_done_ttl")
    chunk_size: Quantity = same(GatewayListenerConfig, "chunk_size")


class GatewaySpec(Workload):
    """What the gateway is."""

    listeners: list[Listener] = Field(default=[], max_length=16)
    """Where SMTP clients come in."""
    smtp_output: SmtpOutput = SmtpOutput()
    """How mail goes out."""
    service: SmtpService = SmtpService()
    """The Service of the listeners."""
    services: list[ServiceGroup] = Field(default=[], max_length=8)
    """Further Services, each for some of the listeners."""
    rest_listener: GatewayListener = GatewayListener()
    """Where routers come in."""
