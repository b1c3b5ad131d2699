"""What a router starts with, and can only be a slip of the pen: warnings, each with what was probably meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from koukan.config import filters
from koukan.config.loader import Path_, Problem, suggest
from koukan.config.matchers import AddressList
from koukan.config.router import ChainConfig, EffectiveSender, RouterConfig
from koukan.model import Sender

#: what `options` of a destination may hold, and what that holds
_OPTIONS: Mapping[str, Sequence[str]] = {"receive_parsing": ("max_inline",), "send_filter_output": ()}


def slips(config: RouterConfig) -> Iterator[Problem]:
    """Remarks worth a warning."""
    for index, endpoint in enumerate(config.rest_endpoint):
        path = ("rest_endpoint", index)
        yield from _options(endpoint.options, (*path, "options"))
        if endpoint.endpoint is not None and not endpoint.endpoint.startswith(("http://", "https://")):
            yield Problem((*path, "endpoint"), f"{endpoint.endpoint!r} is no URL; it begins with http:// or https://")
        elif endpoint.endpoint is not None and "@" in endpoint.endpoint.split("/")[2]:
            yield Problem((*path, "endpoint"), "holds a user or password, which belong in authorization_file")
    for index, chain in enumerate(config.endpoint):
        yield from _chain(chain, ("endpoint", index))
    yield from _no_builder(config)


def _options(options: Mapping[str, Any], path: Path_) -> Iterator[Problem]:
    for name, value in options.items():
        known = _OPTIONS.get(name)
        if known is None:
            hint = suggest(name, _OPTIONS) or f"; there are: {', '.join(_OPTIONS)}"
            yield Problem((*path, name), f"no option of a destination, and without effect{hint}")
        elif isinstance(value, dict):
            for inner in value.keys() - set(known):
                hint = suggest(inner, known) or (f"; there are: {', '.join(known)}" if known else "")
                yield Problem((*path, name, inner), f"no option of {name}, and without effect{hint}")


def _chain(chain: ChainConfig, path: Path_) -> Iterator[Problem]:
    taken_by: int | None = None
    for index, item in enumerate(chain.chain):
        where = (*path, "chain", index)
        if isinstance(item, filters.Router):
            if taken_by is not None and not item.dry_run and not _rejects(item):
                message = f"is never asked: the router at chain[{taken_by}] takes, or rejects, every recipient"
                yield Problem(where, message)
            if takes_all(item) and not item.dry_run and taken_by is None:
                taken_by = index
            yield from _router(item, where)
        match = getattr(item, "match", None)
        if isinstance(match, AddressList):
            yield from _domains(match.domains, (*where, "match", "domains"))


def _rejects(router: filters.Router) -> bool:
    """A last word for whatever is left, which many write to be sure."""
    policy = router.policy
    if isinstance(policy, filters.AddressListPolicy):
        return policy.destination is None
    return policy is None and router.destination is None


def takes_all(router: filters.Router) -> bool:
    """Takes, or rejects, whatever recipient no router before it took."""
    policy = router.policy
    if isinstance(policy, filters.AddressListPolicy):
        return not policy.domains and not policy.prefixes
    return policy is None or isinstance(policy, filters.DestDomainPolicy)


def _router(router: filters.Router, path: Path_) -> Iterator[Problem]:
    policy = router.policy
    if router.destination is not None:
        yield from _options(router.destination.options, (*path, "destination", "options"))
    if isinstance(policy, (filters.AddressListPolicy, filters.DestDomainPolicy)) and policy.destination is not None:
        yield from _options(policy.destination.options, (*path, "policy", "destination", "options"))
    if isinstance(policy, filters.AddressListPolicy):
        yield from _domains(policy.domains, (*path, "policy", "domains"))


def _domains(domains: Sequence[str], path: Path_) -> Iterator[Problem]:
    for index, domain in enumerate(domains):
        if "@" in domain:
            right = domain.rpartition("@")[2]
            yield Problem((*path, index), f"no domain is {domain!r}; write {right!r}, and local parts in prefixes")


def _roles(config: RouterConfig) -> Iterator[tuple[Path_, EffectiveSender, ChainConfig]]:
    """Every sender in every role that has a chain."""
    for number, sender in enumerate(config.sender):
        places: list[tuple[Path_, str | None]] = [(("sender", number), None)]
        places += [(("sender", number, "tag", index), tag.name) for index, tag in enumerate(sender.tag or ())]
        for path, tag_name in places:
            effective = EffectiveSender.of(sender, tag_name)
            chain = None if effective is None or not effective.output_chain else config.chain(effective.output_chain)
            if effective is not None and chain is not None:
                yield path, effective, chain


def _notified(config: RouterConfig) -> set[Sender]:
    """The roles that bounces go in as."""
    targets = [chain.output_handler.notification for chain in config.endpoint]
    return {Sender(target.sender, target.tag) for target in targets if target is not None}


def _no_builder(config: RouterConfig) -> Iterator[Problem]:
    """Applications send to roles that nothing within the router stands for; what they build needs the builder."""
    roles = list(_roles(config))
    inner = _notified(config) | {role.upstream for _, role, chain in roles if chain.interactive}
    for _, _, chain in roles:
        copies = [item for item in chain.chain if isinstance(item, filters.AddRoute) and item.sender is not None]
        inner |= {Sender(item.sender or "", item.tag) for item in copies}
    for path, sender, chain in roles:
        builds = any(isinstance(item, filters.MessageBuilder) for item in chain.chain)
        if not chain.interactive and sender.retry and not builds and sender.sender not in inner:
            message = (
                f"retries mail of applications, and chain {chain.name!r} has no message_builder: what they send as "
                "a spec, not as a whole message, is refused"
            )
            yield Problem(path, message)
