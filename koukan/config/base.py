"""What every configuration model shares: how keys, units and forgotten keys are declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import idna
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from koukan.model import HostPort


class ConfigModel(BaseModel):
    """A stanza of a configuration file.

    The docstring under a field is its description in the reference page and in the CRDs. Unknown keys are kept, so that the
    loader can warn with a suggestion; `ignored_keys` are keys that files of the existing Koukan carry and that mean nothing
    here: they load in silence.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, populate_by_name=True, frozen=True)

    ignored_keys: ClassVar[frozenset[str]] = frozenset()
    #: takes any key: the options of a plug-in
    open: ClassVar[bool] = False


#: a duration in seconds
Seconds = Annotated[float, Field(ge=0, json_schema_extra={"x-unit": "s"})]
#: a size in bytes
Bytes = Annotated[int, Field(ge=0, json_schema_extra={"x-unit": "bytes"})]
#: bytes of each piece of what is sent in pieces
PieceSize = Annotated[int, Field(ge=1, json_schema_extra={"x-unit": "bytes"})]
Port = Annotated[int, Field(ge=0, le=65535)]


def _address(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"must be [host, port], got {value!r}")
    port = value[1]
    if isinstance(port, bool) or (isinstance(port, int) and not 0 <= port <= 65535):
        raise ValueError(f"{port!r} is no TCP port; the form is [host, port]")
    return value


#: `[host, port]` as it stands in a file
Address = Annotated[HostPort, BeforeValidator(_address), Field(json_schema_extra={"x-form": "[host, port]"})]


_LABELS = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
#: octets of a domain name (RFC 1035 §2.3.4)
_MAX_DOMAIN = 255


def _domain_name(value: str) -> str:
    try:
        name = value if value.isascii() else idna.encode(value, uts46=True).decode("ascii")
    except idna.IDNAError:
        name = ""
    if len(name) > _MAX_DOMAIN or not _LABELS.fullmatch(name):
        raise ValueError(f"must be a domain name such as example.com, got {value!r}")
    return value


#: a domain name, or a part of one; U-labels are as good as A-labels
DomainName = Annotated[str, AfterValidator(_domain_name)]


def _host_bits_zero(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        wanted = "must be a network like '192.0.2.0/24' or '2001:db8::/32'"
        raise ValueError(f"{wanted}, got {value!r}{_meant(value)}") from None


def _meant(value: str) -> str:
    try:
        return f"; did you mean {str(ip_network(value, strict=False))!r}?"
    except ValueError:
        return ""


#: a network, host bits zero
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_host_bits_zero)]


class HostEntry(ConfigModel):
    """A host and a port."""

    host: str
    """Host name or IP address."""
    port: Port
    """TCP port."""

    @property
    def host_port(self) -> HostPort:
        return HostPort(self.host, self.port)


Model = TypeVar("Model", bound=ConfigModel)


def by_name(field: str, models: Iterable[type[Model]]) -> dict[str, type[Model]]:
    """The models by every name that each answers to in its `field`."""
    return {name: model for model in models for name in get_args(model.model_fields[field].annotation)}


def tag_of(value: Any, field: str, known: Mapping[str, type[Model]], otherwise: type[Model]) -> str:
    """Which model reads a value of a file: by the name in its `field`; a name that is not ours is a plug-in's."""
    if isinstance(value, ConfigModel):
        return type(value).__name__
    name = value.get(field) if isinstance(value, dict) else None
    return known.get(str(name), otherwise).__name__
