"""Do the filters of a chain stand where each does what it is there for?

No order of them is an error: filters run moment by moment, each does its own in whatever place, and chains with two routers,
two dns_resolution filters, or checks of the envelope before it is routed are usual. What is probably a slip is a remark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from koukan.config import filters
from koukan.config.filters import FilterOptions
from koukan.config.loader import Path_, Problem
from koukan.config.router import ChainConfig

#: what they do is meant for every message, built here or not; filters that only judge a message stand where it is one
_FOR_EVERY_MESSAGE = (
    filters.ReceivedHeader,
    filters.AuthenticationResults,
    filters.DkimSign,
    filters.MessageParser,
)
#: they put another message in the place of the one that was parsed
_CHANGE_MESSAGE = (
    filters.MessageBuilder,
    filters.ReceivedHeader,
    filters.SpfCheck,
    filters.AuthenticationResults,
    filters.DkimSign,
)


def order_remarks(chain: ChainConfig, path: Path_) -> Iterator[Problem]:
    """What stands where it probably was not meant to stand. `path` is the chain's."""
    for index, message in (*_before_builder(chain), *_after_parser(chain), *_unresolved(chain)):
        yield Problem((*path, "chain", index), message)


def _before_builder(chain: ChainConfig) -> Iterator[tuple[int, str]]:
    builder = _last(chain.chain, (filters.MessageBuilder,))
    for index, item in enumerate(chain.chain[: max(builder, 0)]):
        if isinstance(item, _FOR_EVERY_MESSAGE):
            yield (
                index,
                f"{item.filter} does nothing for what message_builder makes, which passes it as a document; "
                "put message_builder before it",
            )


def _after_parser(chain: ChainConfig) -> Iterator[tuple[int, str]]:
    parser = _last(chain.chain, (filters.MessageParser,))
    for index, item in enumerate(chain.chain):
        if 0 <= parser < index and isinstance(item, _CHANGE_MESSAGE):
            yield (
                index,
                f"{item.filter} changes the message after message_parser: receivers do not get what was parsed; "
                "put message_parser behind it",
            )


def _unresolved(chain: ChainConfig) -> Iterator[tuple[int, str]]:
    """Routers whose host names reach the gateway, which takes addresses only, in a chain that resolves others."""
    if not chain.goes_by_route:
        return
    resolution = _last(chain.chain, (filters.DnsResolution,))
    for index, item in enumerate(chain.chain):
        if 0 <= resolution < index and isinstance(item, filters.Router) and not item.dry_run and _names_hosts(item):
            yield index, "no dns_resolution stands behind this router: nobody resolves the hosts that it names"


def _last(chain: Sequence[FilterOptions], kinds: tuple[type[FilterOptions], ...]) -> int:
    return max((index for index, item in enumerate(chain) if isinstance(item, kinds)), default=-1)


def _names_hosts(router: filters.Router) -> bool:
    if isinstance(router.policy, filters.DestDomainPolicy):
        return True
    policy = router.policy
    destination = policy.destination if isinstance(policy, filters.AddressListPolicy) else router.destination
    return destination is not None and any(not _is_address(host.host) for host in destination.host_list or ())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
