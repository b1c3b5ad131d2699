"""router.yaml and gateway.yaml as resources that mean the same.

What only the cluster knows (addresses, per-pod URLs) is left out; files become keys of Secrets; the notes say how to
make these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, create_model

from koukan.config.base import ConfigModel
from koukan.config.filters import FILTER_NAMES
from koukan.config.gateway import GatewayConfig, RestOutputConfig, SmtpServiceConfig
from koukan.config.router import ChainConfig, RestEndpoint, RouterConfig, SenderConfig
from koukan.errors import ConfigError
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.model.forms import form_of
from koukan_operator.model.resources import API_VERSION
from koukan_operator.model.special import EndpointOptions
from koukan_operator.model.values import Reading, format_duration
from koukan_operator.model.workload import AdminListener

Document = dict[str, Any]

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_PORT_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$")

_GLOBAL = (
    "mailer_daemon_mailbox",
    "dns",
    "drain_timeout",
    "dequeue",
    "rest_id_entropy",
    "max_inflight",
    "max_message_size",
    "max_recipients",
)
_STORAGE = ("session_refresh_interval", "blob_tx_refresh_interval", "gc_interval", "gc_ttl", "cache_ttl")
_GATEWAY_LISTENER = ("rest_id_entropy", "gc_interval", "gc_tx_ttl", "gc_done_ttl", "chunk_size")


@dataclass(slots=True)
class Conversion:
    """Resources, and what their author has to do besides applying them."""

    router: str
    gateway: str
    namespace: str
    resources: list[Document] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: base URLs that the two programs are reached at
    router_urls: frozenset[str] = frozenset()
    gateway_urls: frozenset[str] = frozenset()
    #: keys of the Secret that files go to, by path
    files: dict[str, str] = field(default_factory=dict)
    owner: str = ""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def add(self, kind: str, name: str, spec: Document) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        self.resources.append({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})

    def secret(self, path: str) -> Mapping[str, str]:
        """The key of a Secret in place of a file."""
        if path not in self.files:
            name = PurePath(path).name or "file"
            taken = set(self.files.values())
            key = next(k for n in range(len(taken) + 1) if (k := name if n == 0 else f"{n}-{name}") not in taken)
            self.files[path] = key
        return {"name": f"{self.owner}-files", "key": self.files[path]}

    def note_files(self) -> None:
        """How to make the Secret that the files go to."""
        if self.files:
            given = " ".join(f"--from-file={key}={path}" for path, key in self.files.items())
            self.note(f"kubectl -n {self.namespace} create secret generic {self.owner}-files {given}")

    def certificate(self, name: str, cert: str, key: str) -> Document:
        self.note(f"kubectl -n {self.namespace} create secret tls {name} --cert={cert} --key={key}")
        return {"secretName": name}

    def form(self, config: ConfigModel, **more: str) -> Document:
        """A configuration stanza in its form, with fields that only the form has."""
        shown = form_of(type(config)).model_validate(
            {**_plain(config), **more}, context=Reading(self.secret), by_name=True, by_alias=True
        )
        return shown.model_dump(mode="json", by_alias=True, exclude_unset=True)


def convert(
    router: RouterConfig | None, gateway: GatewayConfig | None, *, names: tuple[str, str], namespace: str
) -> Conversion:
    """The resources of the files that there are; `names` are those of the router and the gateway. Raises ConfigError."""
    out = Conversion(*names, namespace)
    if router is not None:
        listener = router.rest_listener
        out.router_urls = frozenset(_base(url) for url in (listener.session_uri, listener.service_uri) if url)
    if gateway is not None:
        out.gateway_urls = frozenset({_base(gateway.rest_listener.session_uri)})
    if router is not None:
        out.owner, out.files = out.router, {}
        _convert_router(router, out)
        out.note_files()
    if gateway is not None:
        out.owner, out.files = out.gateway, {}
        _convert_gateway(gateway, out)
        out.note_files()
    return out


def chain_name(name: str) -> str:
    """What the chain of an `endpoint` stanza is called as an object of Kubernetes."""
    return _NOT_IN_NAMES.sub("-", name.lower()).strip("-") or "chain"


def _convert_router(config: RouterConfig, out: Conversion) -> None:
    listener = config.rest_listener
    spec: Document = {
        "database": {"urlSecretRef": {"name": f"{out.router}-database", "key": "url"}},
        **_some(config.global_, _GLOBAL, out),
        "senders": [_sender(sender, out) for sender in config.sender],
        "restEndpoints": [stanza for endpoint in config.rest_endpoint for stanza in _endpoint(endpoint, out)],
        "storage": _some(config.storage, _STORAGE, out),
        "restListener": _some(listener, ("chunk_size",), out),
        "modules": out.form(config.modules),
    }
    if listener.cert is not None and listener.key is not None:
        spec["tls"] = out.certificate(f"{out.router}-tls", listener.cert, listener.key)
    if config.storage.gc_interval is None:
        out.note("storage.gc_interval was not set; finished transactions are now collected every 5 minutes")
    secret = f"kubectl -n {out.namespace} create secret generic {out.router}-database"
    out.note(f"{secret} --from-literal=url=postgresql://USER:PASSWORD@HOST/DATABASE")
    _add_common(spec, config, out)
    out.add(KoukanRouter.KIND, out.router, _without_empty(spec))
    _check_chain_names([chain.name for chain in config.endpoint])
    for chain in config.endpoint:
        out.add(OutputChain.KIND, chain_name(chain.name), _chain(chain, out))


def _check_chain_names(names: Sequence[str]) -> None:
    """Raises ConfigError."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(chain_name(name), name)
        if other != name:
            raise ConfigError(
                f"endpoint: {other!r} and {name!r} would both be OutputChain {chain_name(name)}; rename one"
            )


def _convert_gateway(config: GatewayConfig, out: Conversion) -> None:
    listener = config.rest_listener
    outputs = {output.name: output for output in config.rest_output}
    listeners: list[Document] = []
    for service in config.smtp_listener.services:
        names = [str(stanza["name"]) for stanza in listeners]
        listeners.append(_listener(service, outputs[service.endpoint], names, out))
    spec: Document = {
        **_some(config.global_, ("drain_timeout",), out),
        "listeners": listeners,
        "smtpOutput": {"hosts": [out.form(host, name=name) for name, host in config.smtp_output.hosts.items()]},
        "restListener": _some(listener, _GATEWAY_LISTENER, out),
    }
    if listener.cert is not None and listener.key is not None:
        spec["tls"] = out.certificate(f"{out.gateway}-tls", listener.cert, listener.key)
    _add_common(spec, config, out)
    out.add(KoukanGateway.KIND, out.gateway, _without_empty(spec))


def _add_common(spec: Document, config: RouterConfig | GatewayConfig, out: Conversion) -> None:
    if config.logging is not None:
        spec["logging"] = config.logging
    if config.admin_listener is None:
        return
    port = config.admin_listener.addr.port
    if port < 1024:
        out.note(f"admin_listener: port {port} cannot be taken without privileges; the default is used")
    elif port != AdminListener().port:
        spec["adminListener"] = {"port": port}


def _sender(config: SenderConfig, out: Conversion) -> Document:
    stanza = out.form(config)
    for part in (stanza, *stanza.get("tags", ())):
        if "outputChain" in part:
            part["outputChain"] = chain_name(part["outputChain"])
    return stanza


def _chain(config: ChainConfig, out: Conversion) -> Document:
    stanza = out.form(config)
    stanza.pop("name")
    for item in stanza["chain"]:
        if item["filter"] in FILTER_NAMES and "outputChain" in item:
            item["outputChain"] = chain_name(item["outputChain"])
    return stanza


def _endpoint(config: RestEndpoint, out: Conversion) -> Iterator[Document]:
    if config.endpoint is None or config.sender is None:
        missing = "endpoint" if config.endpoint is None else "sender"
        out.note(f"rest_endpoint {config.name!r} has no {missing} and could take no mail; it is left out")
        return
    stanza = {**_some(config, ("name", "sender", "tag"), out), **_options(config, out)}
    if _leads_to(config.endpoint, config.sender, out.gateway_urls) and config.tag is not None:
        stanza["gatewayRef"] = {"name": out.gateway}
    elif _leads_to(config.endpoint, config.sender, out.router_urls):
        stanza["routerRef"] = {"name": out.router}
    else:
        stanza |= {"url": config.endpoint, **_verified(config.verify, out)}
        if config.authorization_file is not None:
            stanza["authorizationSecretRef"] = dict(out.secret(config.authorization_file))
    yield stanza


def _listener(service: SmtpServiceConfig, output: RestOutputConfig, names: Sequence[str], out: Conversion) -> Document:
    usable = bool(_PORT_NAME.match(output.name)) and output.name not in names
    name = output.name if usable else f"smtp-{service.addr.port}"
    keys = ("sender", "tag", "limits", "rcpt_timeout", "data_timeout", "delay_reject")
    stanza: Document = {"name": name, "port": service.addr.port, **_some(service, keys, out)}
    if _leads_to(output.endpoint, service.sender, out.router_urls):
        stanza["routerRef"] = {"name": out.router}
    else:
        stanza |= {"url": output.endpoint, **_verified(output.verify, out)}
    if service.cert is not None and service.key is not None:
        stanza["tls"] = out.certificate(f"{out.gateway}-{name}-tls", service.cert, service.key)
        if service.smtps:
            stanza["tls"]["implicit"] = True
    if service.auth_secrets is not None and "tls" in stanza:
        stanza["auth"] = {"secretRef": dict(out.secret(service.auth_secrets))}
    elif service.auth_secrets is not None:
        out.note(f"listener {name} had auth_secrets without a certificate, which offers no AUTH; it is left out")
    if service.proxy_protocol_timeout is not None:
        stanza["proxyProtocol"] = {"timeout": format_duration(service.proxy_protocol_timeout)}
    rest_output = _some(output, ("chunk_size", "refresh_interval"), out)
    return {**stanza, **({"restOutput": rest_output} if rest_output else {})}


def _verified(verify: bool | str | None, out: Conversion) -> Document:
    if isinstance(verify, str):
        return {"caSecretRef": dict(out.secret(verify))}
    return {"verify": False} if verify is False else {}


def _some(config: ConfigModel, names: Sequence[str], out: Conversion) -> Document:
    """These fields of a stanza, in their form, as far as they were set."""
    shown = form_of(type(config)).model_fields
    fields: dict[str, Any] = {
        name: (shown[name].annotation, shown[name])
        for name in names
        if name in config.model_fields_set and getattr(config, name) is not None
    }
    part: type[BaseModel] = create_model("Part", **fields)
    held = part.model_validate(
        {name: _plain(getattr(config, name)) for name in fields},
        context=Reading(out.secret),
        by_name=True,
        by_alias=True,
    )
    return held.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _options(config: RestEndpoint, out: Conversion) -> Document:
    known = {key: value for key, value in config.options.items() if key in EndpointOptions.model_fields}
    for key in config.options.keys() - known.keys():
        out.note(f"rest_endpoint {config.name!r}: option {key!r} means nothing and is left out")
    options = EndpointOptions.model_validate(known, by_name=True, by_alias=False)
    shown = options.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"options": shown} if shown else {}


def _leads_to(url: str, sender: str, bases: frozenset[str]) -> bool:
    return any(url == f"{base}/senders/{sender}/transactions" for base in bases)


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _plain(value: Any) -> Any:
    """A configuration as a document with nothing but what was set; unknown keys only where they are a plug-in's."""
    if isinstance(value, ConfigModel):
        fields = type(value).model_fields
        shown = {
            fields[name].alias or name: _plain(getattr(value, name))
            for name in fields
            if name in value.model_fields_set
        }
        return {**shown, **(value.model_extra or {})} if value.open else shown
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _without_empty(spec: Document) -> Document:
    return {key: value for key, value in spec.items() if value not in ({}, [])}
