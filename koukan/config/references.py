"""Do the names in router.yaml lead somewhere, and does every chain end where mail can go?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from koukan.config import filters
from koukan.config.loader import Path_, Problem, suggest
from koukan.config.matchers import NumRcpts
from koukan.config.order import order_remarks
from koukan.config.policies import check_policies, policy_remarks
from koukan.config.router import ChainConfig, EffectiveSender, RouterConfig, SenderConfig, TagConfig
from koukan.config.slips import slips, takes_all


def check_router(config: RouterConfig) -> tuple[list[Problem], list[Problem]]:
    """Problems that must not start, and remarks worth a warning."""
    problems = [
        *_duplicates("sender", [s.name for s in config.sender]),
        *_duplicates("endpoint", [c.name for c in config.endpoint]),
        *_duplicates("rest_endpoint", [e.name for e in config.rest_endpoint]),
    ]
    for index, sender in enumerate(config.sender):
        problems += _duplicates("tag", [t.name for t in sender.tag or ()], ("sender", index))
    if problems:
        return problems, []  # what refers to such a name may be meant for either
    for index, sender in enumerate(config.sender):
        problems += _check_sender(config, sender, ("sender", index))
    for index, chain in enumerate(config.endpoint):
        problems += _check_chain(config, chain, ("endpoint", index))
    return problems, list(_remarks(config))


def effective_sender(config: RouterConfig, name: str, tag: str | None) -> EffectiveSender | None:
    """The sender of that name with the tag's overrides; None when there is none."""
    sender = next((s for s in config.sender if s.name == name), None)
    return None if sender is None else EffectiveSender.of(sender, tag)


def child_chain(config: RouterConfig, sender: EffectiveSender, sink: filters.Exploder) -> ChainConfig | None:
    """The chain of the exploder's per-recipient transactions.

    The sender's upstream_sender and upstream_tag name it; where they lead back to an exploder (as they do when nothing is
    set), the exploder's own output_chain does, as the published configuration page has it.
    """
    upstream = effective_sender(config, sender.upstream.name, sender.upstream.tag)
    named = config.chain(upstream.output_chain) if upstream is not None and upstream.output_chain else None
    if named is not None and not named.interactive:
        return named
    own = config.chain(sink.output_chain) if sink.output_chain is not None else None
    return own if own is not None and not own.interactive else None


def _duplicates(stanza: str, names: Sequence[str], path: Path_ = ()) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Problem((*path, stanza, index, "name"), f"there is another {stanza} {name!r}; names must be unique")
        seen.add(name)


def _unknown(kind: str, name: str | None, known: Iterable[str]) -> str:
    names = list(known)
    listed = ", ".join(names) or "none"
    return f"there is no {kind} {name!r}{suggest(str(name), names) or f'; there are: {listed}'}"


def _check_sender(config: RouterConfig, sender: SenderConfig, path: Path_) -> Iterator[Problem]:
    tags = sender.tag or []
    if not tags and sender.output_chain is None:
        yield Problem(path, f"sender {sender.name!r} needs an output_chain")
    # A sender whose tags all have chains of their own needs none itself; then only its tags are senders.
    roles: list[tuple[TagConfig | None, Path_]] = [(t, (*path, "tag", i)) for i, t in enumerate(tags)]
    if sender.output_chain is not None:
        roles.append((None, path))
    for tag, where in roles:
        effective = EffectiveSender.of(sender, tag.name if tag is not None else None)
        if effective is not None:
            yield from _check_role(config, effective, where)


def _check_role(config: RouterConfig, sender: EffectiveSender, path: Path_) -> Iterator[Problem]:
    if sender.output_chain is None:
        yield Problem(path, f"{sender.sender} needs an output_chain, here or on the sender")
        return
    chain = config.chain(sender.output_chain)
    if chain is None:
        message = _unknown("output chain (endpoint)", sender.output_chain, [c.name for c in config.endpoint])
        yield Problem((*path, "output_chain"), message)
    elif isinstance(chain.sink, filters.Exploder) and child_chain(config, sender, chain.sink) is None:
        yield Problem(
            path,
            f"{sender.sender} ends in an exploder, but the transactions it makes as {sender.upstream} would end there again; "
            "set upstream_tag (or upstream_sender) to one whose chain ends in rest_output",
        )


def _check_chain(config: RouterConfig, chain: ChainConfig, path: Path_) -> Iterator[Problem]:
    for index, item in enumerate(chain.chain):
        where = (*path, "chain", index)
        if isinstance(item, filters.PluginFilter) and item.filter not in config.modules.sync_filter:
            known = [*filters.FILTER_NAMES, *config.modules.sync_filter]
            yield Problem((*where, "filter"), _unknown("filter", item.filter, known))
        elif isinstance(item, filters.Router):
            yield from _check_destinations(config, item, where, sends=chain.goes_by_route and not item.dry_run)
        elif isinstance(item, filters.AddRoute) and item.sender is not None:
            yield from _check_reference(config, item.sender, item.tag, where)
            if _copies_come_back(config, item, chain):
                yield Problem(where, "the copies would come back to this chain, each with another copy, without end")
        elif isinstance(item, filters.RestOutput):
            yield from _check_static_endpoint(config, item, where)
        elif isinstance(item, filters.Exploder) and item.output_chain and config.chain(item.output_chain) is None:
            message = _unknown("output chain (endpoint)", item.output_chain, [c.name for c in config.endpoint])
            yield Problem((*where, "output_chain"), message)
    for index in chain.sinks_before_the_end():
        yield Problem((*path, "chain", index), f"{chain.chain[index].filter} ends a chain; nothing may follow it")
    sink = chain.sink
    unknown = isinstance(sink, filters.PluginFilter) and sink.filter not in config.modules.sync_filter
    if not isinstance(sink, filters.SINKS) and not unknown:  # an unknown one has its line already
        last = (*path, "chain", len(chain.chain) - 1)
        yield Problem(last, "the last filter must be rest_output or exploder, or mail goes nowhere")
    yield from check_policies(config, chain, path)
    notification = chain.output_handler.notification
    if notification is not None:
        where = (*path, "output_handler", "notification")
        yield from _check_reference(config, notification.sender, notification.tag, where)


def _check_destinations(config: RouterConfig, item: filters.Router, path: Path_, *, sends: bool) -> Iterator[Problem]:
    """`sends`: mail goes where this router says. Where it does not, a destination only has to be no slip of the pen."""
    policy = item.policy
    if isinstance(policy, filters.PluginPolicy) and policy.name not in config.modules.recipient_router_policy:
        known = ["address_list", "dest_domain", *config.modules.recipient_router_policy]
        yield Problem((*path, "policy", "name"), _unknown("routing policy", policy.name, known))
    if isinstance(policy, (filters.AddressListPolicy, filters.DestDomainPolicy)):
        destination, where = policy.destination, (*path, "policy", "destination")
    else:
        destination, where = item.destination, (*path, "destination")
    if destination is None:
        return
    if destination.endpoint is None:
        if sends:
            yield Problem(where, "needs an endpoint; an empty destination is for dry_run only")
        return
    endpoint = next((e for e in config.rest_endpoint if e.name == destination.endpoint), None)
    if endpoint is None:
        message = _unknown("rest_endpoint", destination.endpoint, [e.name for e in config.rest_endpoint])
        yield Problem((*where, "endpoint"), message)
    elif sends and (endpoint.endpoint is None or endpoint.sender is None):
        missing = "endpoint (its URL)" if endpoint.endpoint is None else "sender"
        yield Problem((*where, "endpoint"), f"rest_endpoint {endpoint.name!r} cannot take mail: it has no {missing}")


def _check_static_endpoint(config: RouterConfig, item: filters.RestOutput, path: Path_) -> Iterator[Problem]:
    name = item.static_endpoint
    if name is not None and "://" not in name and all(e.name != name for e in config.rest_endpoint):
        message = _unknown("rest_endpoint", name, [e.name for e in config.rest_endpoint])
        yield Problem((*path, "static_endpoint"), message)


def _check_reference(config: RouterConfig, name: str, tag: str | None, path: Path_) -> Iterator[Problem]:
    if all(s.name != name for s in config.sender):
        yield Problem((*path, "sender"), _unknown("sender", name, [s.name for s in config.sender]))
        return
    tags = [t.name for s in config.sender if s.name == name for t in s.tag or ()]
    effective = effective_sender(config, name, tag)
    if effective is None:
        yield Problem((*path, "tag"), _unknown(f"tag of sender {name!r}", tag, tags))
    elif effective.output_chain is None and tags:  # without tags the sender has its line already
        yield Problem(path, f"{effective.sender} has no output_chain; name one of its tags")


def _copies_come_back(config: RouterConfig, copier: filters.AddRoute, chain: ChainConfig) -> bool:
    """Whether the chain that takes the copies, or one that takes copies of those, is the chain they come from."""
    seen: set[str] = set()
    waiting = [copier]
    while waiting:
        item = waiting.pop()
        sender = None if item.sender is None else effective_sender(config, item.sender, item.tag)
        for reached in () if sender is None else _chains_of(config, sender):
            if reached.name == chain.name:
                return True
            if reached.name not in seen:
                seen.add(reached.name)
                waiting += [f for f in reached.chain if isinstance(f, filters.AddRoute)]
    return False


def _chains_of(config: RouterConfig, sender: EffectiveSender) -> list[ChainConfig]:
    """The chain of a sender and, behind an exploder, that of its per-recipient transactions."""
    own = None if sender.output_chain is None else config.chain(sender.output_chain)
    child = (
        child_chain(config, sender, own.sink) if own is not None and isinstance(own.sink, filters.Exploder) else None
    )
    return [c for c in (own, child) if c is not None]


def _remarks(config: RouterConfig) -> Iterator[Problem]:
    notifies = [i for i, c in enumerate(config.endpoint) if c.output_handler.notification is not None]
    if notifies and config.global_.mailer_daemon_mailbox is None:
        path = ("endpoint", notifies[0], "output_handler", "notification")
        yield Problem(
            path, "bounces will come from mailer-daemon at this host's name; set global.mailer_daemon_mailbox"
        )
    if config.storage.gc_interval is None:
        yield Problem(("storage",), "finished transactions are never deleted; set storage.gc_interval, 300 for example")
    yield from slips(config)
    promising = _promising_chains(config)
    for index, chain in enumerate(config.endpoint):
        yield from order_remarks(chain, ("endpoint", index))
        yield from policy_remarks(chain, ("endpoint", index))
        if chain.name in promising and chain.output_handler.notification is None:
            message = (
                "has no output_handler.notification: nobody hears of mail that was accepted and then fails for good"
            )
            yield Problem(("endpoint", index), message)
        if chain.goes_by_route and not any(isinstance(i, filters.Router) and takes_all(i) for i in chain.chain):
            message = "no router takes every recipient; those that none takes are rejected with 550"
            yield Problem(("endpoint", index, "chain"), message)


def _promising_chains(config: RouterConfig) -> set[str]:
    """Chains of mail that may have been accepted before it fails: behind an exploder, and of senders with notifications."""
    found: set[str] = set()
    for sender in config.sender:
        for tag in (None, *(t.name for t in sender.tag or ())):
            effective = EffectiveSender.of(sender, tag)
            own = None if effective is None or effective.output_chain is None else config.chain(effective.output_chain)
            if effective is None or own is None:
                continue
            if isinstance(own.sink, filters.Exploder):
                child = child_chain(config, effective, own.sink)
                if child is not None and (own.exploder_is_msa or not _takes_one_recipient(own)):
                    found.add(child.name)
            elif effective.notification:
                found.add(own.name)
    return found


def _takes_one_recipient(chain: ChainConfig) -> bool:
    """Every message has a single recipient, whose own answer is the client's: nothing is accepted that may still fail."""
    return any(
        isinstance(item, filters.PolicyAction)
        and item.action == "REJECT"
        and isinstance(item.match, NumRcpts)
        and item.match.max_rcpts <= 1
        for item in chain.chain
    )
