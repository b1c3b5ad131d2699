"""Options of the routing policies: one model each, `name: NAME` says which."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from koukan.config.base import ConfigModel, HostEntry, Port, by_name, tag_of


class Destination(ConfigModel):
    """Where a recipient goes. Present but empty: a placeholder for dry_run."""

    endpoint: str | None = None
    """Name of a rest_endpoint."""
    host_list: list[HostEntry] | None = None
    """Hosts that the gateway tries in order."""
    options: dict[str, Any] = {}
    """Laid over the endpoint's options."""


class PolicyOptions(ConfigModel):
    """A routing policy: which recipients go where."""

    name: str
    """Name of the policy."""


def present(value: Any) -> Any:
    """`destination:` with nothing behind it is YAML's null, and means the empty destination."""
    return {} if value is None else value


class _RoutedPolicy(PolicyOptions):
    """A policy that leads to a configured destination."""

    @model_validator(mode="before")
    @classmethod
    def _published_options(cls, data: Any) -> Any:
        """Older documentation writes `options` beside `destination`; they belong into it."""
        if not isinstance(data, dict) or "options" not in data or not isinstance(data.get("destination"), dict):
            return data
        rest = {key: value for key, value in data.items() if key != "options"}
        destination = data["destination"]
        merged = {**(data["options"] or {}), **(destination.get("options") or {})}
        return {**rest, "destination": {**destination, "options": merged}}


class AddressListPolicy(_RoutedPolicy):
    """Recipients in a list of domains and local parts; without destination they are rejected.

    `Postmaster` without a domain, which every mail server has to take (RFC 5321 §4.5.1), goes to the destination of the first
    list whose local parts have it, in whatever domain.
    """

    name: Literal["address_list"]
    domains: list[str] = []
    """Domains; empty means any."""
    prefixes: list[str] = []
    """Local parts; empty means any."""
    delimiter: str | None = None
    """With it, `prefix + delimiter + anything` matches too."""
    destination: Annotated[Destination | None, BeforeValidator(present)] = None
    """Where they go; absent: 550."""


class DestDomainPolicy(_RoutedPolicy):
    """Every recipient goes to the hosts of its own domain."""

    name: Literal["dest_domain"]
    destination: Annotated[Destination, BeforeValidator(present)]
    """The endpoint that takes them, usually a gateway."""
    dest_port: Port = 25
    """Port of those hosts."""


class HelloPolicy(PolicyOptions):
    """The sample plug-in of the existing Koukan: never matches."""

    name: Literal["hello", "hello_policy"]


class PluginPolicy(PolicyOptions):
    """A policy of `modules.recipient_router_policy`; every other key is its own."""

    open: ClassVar[bool] = True


#: every name a built-in policy answers to
POLICY_NAMES: dict[str, type[PolicyOptions]] = by_name("name", (AddressListPolicy, DestDomainPolicy, HelloPolicy))


Policy = Annotated[
    Annotated[AddressListPolicy, Tag("AddressListPolicy")]
    | Annotated[DestDomainPolicy, Tag("DestDomainPolicy")]
    | Annotated[HelloPolicy, Tag("HelloPolicy")]
    | Annotated[PluginPolicy, Tag("PluginPolicy")],
    Discriminator(lambda value: tag_of(value, "name", POLICY_NAMES, PluginPolicy)),
]
