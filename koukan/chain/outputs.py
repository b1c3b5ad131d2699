"""What the built-in filters learn, by the names and shapes that receivers and policies of the existing Koukan know."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from koukan.chain.transaction import FilterOutput
from koukan.message.address import Address
from koukan.message.validation import Level


class HostStatus(IntEnum):
    OK = 0
    DNS_TEMP = 1
    NOT_FOUND = 2


@dataclass(frozen=True, slots=True)
class RemoteHostOutput(FilterOutput):
    """remote_host: the client's confirmed name."""

    key: ClassVar[str] = "koukan.remote_host_filter.RemoteHostFilter"

    status: HostStatus
    fcrdns: bool = False
    ehlo_alignment: bool = False
    #: as in DNS, with its trailing dot
    remote_hostname: str | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "status": int(self.status),
            "fcrdns": self.fcrdns,
            "ehlo_alignment": self.ehlo_alignment,
        }
        if self.remote_hostname is not None:
            out["remote_hostname"] = self.remote_hostname
        return out


@dataclass(frozen=True, slots=True)
class MessageValidationOutput(FilterOutput):
    """message_validation: how valid the message is."""

    key: ClassVar[str] = "koukan.message_validation_filter.MessageValidationFilter"

    status: Level
    err: str | None = None
    received_header_count: int | None = None
    #: the mailbox of the From header when there is exactly one; for later filters and matchers, not serialised
    from_address: Address | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"status": int(self.status)}
        if self.err is not None:
            out["err"] = self.err
        if self.received_header_count is not None:
            out["received_header_count"] = self.received_header_count
        return out


class SpfStatus(IntEnum):
    TEMPERROR = 0
    PASS = 1
    PERMERROR = 2
    FAIL = 3
    SOFTFAIL = 4
    NONE = 5
    NEUTRAL = 6


@dataclass(frozen=True, slots=True)
class SpfCheckOutput(FilterOutput):
    """spf_check: verdicts (RFC 7208 §2.6) on the envelope sender's domain and on extra domains."""

    key: ClassVar[str] = "koukan.spf_check_filter.SpfCheckFilter"

    mail_from_result: SpfStatus
    extra_domains_results: dict[str, SpfStatus] = field(default_factory=dict)
    #: the identity that was checked: the envelope sender's domain, or the EHLO name for the null sender
    domain: str | None = None
    explanation: str | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"mail_from_result": int(self.mail_from_result)}
        if self.extra_domains_results:
            out["extra_domains_results"] = {k: int(v) for k, v in self.extra_domains_results.items()}
        return out


class DkimStatus(IntEnum):
    TEMP_ERR = 0
    PASS = 1
    FAIL = 2
    UNKNOWN_ALGO = 3


class DkimAlignment(IntEnum):
    """How the signing domain relates to the domain of the From header; lower is closer."""

    DOMAIN = 0
    SAME_SLD = 1
    OTHER = 2


@dataclass(frozen=True, slots=True)
class DkimResult:
    """The verdict on one DKIM-Signature header."""

    status: DkimStatus
    #: signing domain (d=), lower-cased
    domain: str | None = None
    #: None without a usable From
    alignment: DkimAlignment | None = None
    headers: tuple[str, ...] = ()
    timestamp: int | None = None
    expiration: int | None = None
    #: tags of the signature without h, d, b, bh, t, x
    tags: dict[str, str] = field(default_factory=dict)
    #: why it is not a pass, for logs and Authentication-Results
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"status": int(self.status)}
        if self.alignment is not None:
            out["alignment"] = int(self.alignment)
        if self.domain is not None:
            out["domain"] = self.domain
        if self.headers:
            out["headers"] = list(self.headers)
        if self.timestamp is not None:
            out["timestamp"] = self.timestamp
        if self.expiration is not None:
            out["expiration"] = self.expiration
        if self.tags:
            out["tags"] = self.tags
        return out


@dataclass(frozen=True, slots=True)
class DkimCheckOutput(FilterOutput):
    """dkim_check: one verdict per signature, top to bottom."""

    key: ClassVar[str] = "koukan.dkim_check_filter.DkimCheckFilter"

    results: tuple[DkimResult, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"results": [result.to_json() for result in self.results]}


class DnsStatus(IntEnum):
    OK = 0
    NX = 1
    TEMP = 2


@dataclass(frozen=True, slots=True)
class DnsResolutionOutput(FilterOutput):
    """dns_resolution: whether the domains of the envelope and the hosts of the route resolve; None: not asked yet."""

    key: ClassVar[str] = "koukan.mx_resolution.DnsResolutionFilter"

    mail_from_result: DnsStatus | None = None
    #: by recipient index
    rcpt_to_result: tuple[DnsStatus, ...] = ()
    resolution_result: DnsStatus | None = None
    #: it is hosts of the configuration that do not resolve; for the end of the chain, not serialised
    relay_lost: bool = False

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.mail_from_result is not None:
            out["mail_from_result"] = int(self.mail_from_result)
        if self.rcpt_to_result:
            out["rcpt_to_result"] = [int(r) for r in self.rcpt_to_result]
        if self.resolution_result is not None:
            out["resolution_result"] = int(self.resolution_result)
        return out


@dataclass(frozen=True, slots=True)
class PolicyActionOutput(FilterOutput):
    """policy_action: which rules and tags have matched, in order."""

    key: ClassVar[str] = "koukan.policy_action_filter.PolicyActionFilter"

    matched_tags: tuple[str, ...] = ()
    matched_rules: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"matched_tags": list(self.matched_tags), "matched_rules": list(self.matched_rules)}
