"""What a resource refers to, and what of it was found: the input of rendering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from koukan.config import filters
from koukan.config.loader import Path_
from koukan_operator.errors import InvalidResource
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.model.secrets import SecretKeyRef
from koukan_operator.model.workload import Tls
from koukan_operator.peers import certificate_name, listener_certificate_name, tls_secret

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object in the namespace of the resource that refers to it.

    `kind` is one of OutputChain, Secret, ConfigMap, KoukanRouter, KoukanGateway.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Refs:
    """Documents as the API server gave them. What is not in `found` does not exist."""

    found: Mapping[ObjectRef, Document] = field(default_factory=dict)
    #: every OutputChain of the namespace; a router finds those that attach to it here
    chains: Sequence[Document] = ()

    def chain(self, name: str) -> Document | None:
        """The OutputChain of that name."""
        listed = (c for c in self.chains if c["metadata"]["name"] == name)
        return self.found.get(ObjectRef(OutputChain.KIND, name)) or next(listed, None)

    def attached(self, router: str) -> list[Document]:
        """Chains that attach to a router, oldest first: that is who wins where two claim the same."""
        chains = [c for c in self.chains if router in _router_names(c) and not c["metadata"].get("deletionTimestamp")]
        return sorted(chains, key=lambda c: (c["metadata"].get("creationTimestamp") or "", c["metadata"]["name"]))


def references_of(
    resource: KoukanRouter | KoukanGateway | OutputChain, refs: Refs | None = None
) -> frozenset[ObjectRef]:
    """Everything whose change must reconcile `resource` again, whether it exists or not.

    References lead on: a router's chains name Secrets, a gateway's router has a CA. With what was found so far in `refs`,
    they are followed; call again with the new finds until the answer stays the same (a chain that an exploder of another
    chain names takes a round each).
    """
    found = refs or Refs()
    if isinstance(resource, OutputChain):
        return frozenset(_of_chain(resource)) | {ObjectRef(KoukanRouter.KIND, name) for name in resource.router_names}
    direct = set(_of_router(resource) if isinstance(resource, KoukanRouter) else _of_gateway(resource))
    if isinstance(resource, KoukanRouter):
        direct.update(
            ObjectRef(OutputChain.KIND, c["metadata"]["name"]) for c in found.attached(resource.metadata.name)
        )
    return frozenset(direct | set(_led_on(direct, found)))


def secrets_in(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, SecretKeyRef]]:
    """Every reference to a key of a Secret inside a resource, with the path that it stands at."""
    if isinstance(value, SecretKeyRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from secrets_in(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from secrets_in(item, (*path, index))


def named_chains(router: KoukanRouter) -> Iterator[tuple[Path_, str]]:
    """OutputChains that the router's own senders name, with the path."""
    for index, sender in enumerate(router.spec.senders):
        path: Path_ = ("spec", "senders", index)
        if sender.output_chain is not None:
            yield (*path, "outputChain"), sender.output_chain
        for position, tag in enumerate(sender.tag or ()):
            if tag.output_chain is not None:
                yield (*path, "tags", position, "outputChain"), tag.output_chain


def chains_led_to(chain: OutputChain) -> Iterator[tuple[Path_, str]]:
    """Other OutputChains that a chain names: those of its exploder and of the senders that it claims."""
    for index, item in enumerate(chain.spec.chain):
        if isinstance(item, filters.Exploder) and item.output_chain is not None:
            yield ("spec", "chain", index, "outputChain"), item.output_chain
    for index, sender in enumerate(chain.spec.senders):
        for tag in (sender, *(sender.tag or ())):
            if tag.output_chain is not None:
                yield ("spec", "senders", index), tag.output_chain


def rest_tls_secret(resource: KoukanRouter | KoukanGateway) -> str | None:
    """The Secret with the certificate of the REST listener."""
    return _secret_of(resource.spec.tls, certificate_name(resource.metadata.name))


def listener_tls_secret(gateway: KoukanGateway, index: int) -> str | None:
    """The Secret with the certificate of an SMTP listener."""
    listener = gateway.spec.listeners[index]
    return _secret_of(listener.tls, listener_certificate_name(gateway.metadata.name, listener.name))


def _secret_of(tls: Tls | None, made: str) -> str | None:
    return None if tls is None else tls.secret_name or made


def _of_chain(chain: OutputChain) -> Iterator[ObjectRef]:
    yield from (ObjectRef("Secret", ref.name) for _, ref in secrets_in(chain.spec))
    yield from (ObjectRef(OutputChain.KIND, name) for _, name in chains_led_to(chain))


def _of_router(router: KoukanRouter) -> Iterator[ObjectRef]:
    spec = router.spec
    yield from (ObjectRef("Secret", ref.name) for _, ref in secrets_in(spec))
    yield from (ObjectRef(OutputChain.KIND, name) for _, name in named_chains(router))
    if spec.database.credentials_secret_ref is not None:
        yield ObjectRef("Secret", spec.database.credentials_secret_ref.name)
    yield from _of_tls(rest_tls_secret(router))
    for endpoint in spec.rest_endpoints:
        if endpoint.gateway_ref is not None:
            yield ObjectRef(KoukanGateway.KIND, endpoint.gateway_ref.name)
        if endpoint.router_ref is not None and endpoint.router_ref.name != router.metadata.name:
            yield ObjectRef(KoukanRouter.KIND, endpoint.router_ref.name)


def _of_gateway(gateway: KoukanGateway) -> Iterator[ObjectRef]:
    yield from (ObjectRef("Secret", ref.name) for _, ref in secrets_in(gateway.spec))
    yield from _of_tls(rest_tls_secret(gateway))
    for index, listener in enumerate(gateway.spec.listeners):
        yield from _of_tls(listener_tls_secret(gateway, index))
        if listener.router_ref is not None:
            yield ObjectRef(KoukanRouter.KIND, listener.router_ref.name)


def _of_tls(secret: str | None) -> Iterator[ObjectRef]:
    if secret is not None:
        yield ObjectRef("Secret", secret)


def _led_on(direct: set[ObjectRef], refs: Refs) -> Iterator[ObjectRef]:
    waiting, seen = sorted(direct), set(direct)
    while waiting:
        ref = waiting.pop()
        for further in _led_to(ref, refs):
            yield further
            if further not in seen:
                seen.add(further)
                waiting.append(further)


def _led_to(ref: ObjectRef, refs: Refs) -> Iterator[ObjectRef]:
    if ref.kind == OutputChain.KIND:
        document = refs.chain(ref.name)
        chain = None if document is None else parsed_chain(document)
        if chain is not None:
            yield from _of_chain(chain)
    elif ref.kind in (KoukanRouter.KIND, KoukanGateway.KIND):
        peer = refs.found.get(ref)
        yield from _of_tls(None if peer is None else tls_secret(peer))


def parsed_chain(document: Document) -> OutputChain | None:
    """The chain; None when it is invalid, which rendering reports."""
    try:
        return OutputChain.parse(document)
    except InvalidResource:
        return None


def _router_names(chain: Document) -> list[str]:
    return [str(ref.get("name")) for ref in (chain.get("spec") or {}).get("routerRefs") or ()]
