"""Who sends to whom, from where: the envelope and the conversation it came in (RFC 5321 §2.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class HostPort(NamedTuple):
    """A host (name or IP literal without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def of(cls, address: Any) -> HostPort | None:
        """From a socket's address; None for one that has no port."""
        return cls(address[0], address[1]) if isinstance(address, tuple) and len(address) >= 2 else None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EsmtpParam:
    """One parameter of MAIL or RCPT (RFC 5321 §4.1.2): `SIZE=1024` or a bare keyword."""

    keyword: str
    value: str | None = None

    def __str__(self) -> str:
        return self.keyword if self.value is None else f"{self.keyword}={self.value}"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A reverse-path or forward-path without angle brackets; the empty address is the null reverse-path."""

    address: str
    params: tuple[EsmtpParam, ...] = ()

    def param(self, keyword: str) -> EsmtpParam | None:
        """The parameter of that name; keywords compare without case (RFC 5321 §2.4)."""
        wanted = keyword.upper()
        return next((p for p in self.params if p.keyword.upper() == wanted), None)

    @property
    def domain(self) -> str | None:
        """What stands behind the last `@`, lower-cased; None without one."""
        local, at, domain = self.address.rpartition("@")
        return domain.lower() if at and local and domain else None

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True)
class Sender:
    """The principal a transaction runs as: the REST path element and the role (tag) within it."""

    name: str
    tag: str | None = None

    def __str__(self) -> str:
        return self.name if self.tag is None else f"{self.name}/{self.tag}"


@dataclass(frozen=True, slots=True)
class SmtpMeta:
    """What the gateway knows of the SMTP conversation; absent for REST clients.

    `extra` keeps keys that this version does not know, so that they reach plug-ins.
    """

    ehlo_host: str | None = None
    esmtp: bool = False
    tls: bool = False
    auth: bool | None = None
    extra: Mapping[str, object] | None = None
