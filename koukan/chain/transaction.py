"""What the filters of a chain know about the transaction they look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, TypeVar

from koukan.config.router import RestEndpoint
from koukan.model import HostPort, Mailbox, Response, Sender, SmtpMeta


def _always() -> bool:
    return True


class FilterOutput(ABC):
    """What a filter has learned. Later filters and matchers read it in `Transaction.outputs`."""

    #: the name that receivers and policies know (filters.md §1): the class path of the existing Koukan's filter
    key: ClassVar[str]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The shape that goes over the wire with send_filter_output."""


Output = TypeVar("Output", bound=FilterOutput)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a recipient goes: set by the router filter, read by dns_resolution, message_parser and the sink."""

    endpoint: RestEndpoint
    #: hosts for the gateway to try in order; empty: the endpoint knows
    hosts: tuple[HostPort, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    #: the operator has named the hosts. Where not, one that is called as a recipient's domain is a stranger's word
    hosts_are_ours: bool = False


@dataclass(slots=True)
class Recipient:
    """One forward-path. `index` is its position in the transaction, `response` the answer once there is one."""

    mailbox: Mailbox
    index: int
    response: Response | None = None
    #: a router filter of this chain has taken it
    routed: bool = False
    #: the client has named this one before: that one's way and answer are this one's, and there is one copy
    same_as: Recipient | None = None


@dataclass(slots=True)
class Transaction:
    """One transaction within one chain, for one attempt. Filters write `outputs`, `route` and their own `notes`."""

    id: str
    sender: Sender
    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    smtp_meta: SmtpMeta | None = None
    mail_from: Mailbox | None = None
    recipients: list[Recipient] = field(default_factory=list)
    #: by FilterOutput.key
    outputs: dict[str, FilterOutput] = field(default_factory=dict)
    route: Route | None = None
    #: the mail server that was asked last, for bounces and logs
    next_hop: HostPort | None = None
    #: private state of filters, by filter instance
    notes: dict[object, Any] = field(default_factory=dict)
    #: a filter or the sink has failed in a way that nobody foresaw
    internal_error: bool = False
    #: how often it has been attempted before: 0 on the first attempt
    earlier_attempts: int = 0
    #: filter_output that a REST client sent along
    client_output: Mapping[str, Any] | None = None
    #: asked by a sink right before the body goes out, and while it does: False when it must not, since it was cancelled, its
    #: client is gone, or somebody else does it by now
    may_send: Callable[[], bool] = _always

    @property
    def client_address(self) -> IPv4Address | IPv6Address | None:
        """The client's IP address, None when nobody gave one. An IPv4 client on a socket for both families is an IPv4 client.

        A zone (RFC 4007 §11) is left out: it means something on one machine only.
        """
        if self.remote_host is None:
            return None
        try:
            address = ip_address(self.remote_host.host.partition("%")[0])
        except ValueError:
            return None
        return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address

    @property
    def smtputf8(self) -> bool:
        """The client announced that header fields may hold UTF-8 (RFC 6531 §3.4)."""
        return self.mail_from is not None and self.mail_from.param("SMTPUTF8") is not None

    def output(self, kind: type[Output]) -> Output | None:
        """The output of that kind, None when its filter has not run."""
        found = self.outputs.get(kind.key)
        return found if isinstance(found, kind) else None

    def add_output(self, output: FilterOutput) -> None:
        self.outputs[output.key] = output
