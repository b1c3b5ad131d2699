"""router: decides where each recipient goes. The first router of a chain that takes a recipient has it.

A transaction goes one way. Where recipients disagree, the first that is sent decides; one that would go another way is
answered 452, on which a client sends it in a transaction of its own (RFC 5321 §4.5.3.1.10). Behind an exploder, where every
recipient has a transaction of its own, that does not happen.
"""

from __future__ import annotations

from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import DnsResolutionOutput
from koukan.chain.plugins import Plugins
from koukan.chain.routing import address_list, dest_domain, hello
from koukan.chain.routing.policy import EveryRecipient, RoutingPolicy, make_route, refuse
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config import filters
from koukan.model import Response

_REJECT_ALL = Response(550, "5.1.1 mailbox does not exist (RecipientRouterFilter null policy)")
_ANOTHER_WAY = Response(452, "4.5.3 this recipient goes another way than the first, send it in another transaction")
_NO_ROUTE = Response(550, "5.1.1 mailbox does not exist (no route)")
# Which host that is, strangers need not know; the log says it.
_RELAY_LOST = Response(451, "4.3.5 the mail server that takes this mail cannot be found now, try again later")


class Router(Filter):
    """The filter as configured. `tx.notes[Router]` is the newest route as routed, before anyone resolves its hosts."""

    def __init__(self, policy: RoutingPolicy, *, dry_run: bool = False) -> None:
        self._policy = policy
        self._dry_run = dry_run

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        if recipient.routed:
            return None
        answer = await self._policy.route(tx, recipient)
        if answer is None or isinstance(answer, Response):
            return answer
        if not isinstance(answer, Route):
            raise TypeError(f"{self._policy!r} must return a Route, a Response or None, not {answer!r}")
        recipient.routed = True
        return None if self._dry_run else _go(tx, answer)


def _go(tx: Transaction, route: Route) -> Response | None:
    newest = tx.notes.get(Router)
    if route == newest:
        return None
    if RouteGuard in tx.notes:
        return _ANOTHER_WAY
    tx.route = tx.notes[Router] = route
    return None


class RouteGuard(Filter):
    """Stands before a sink that goes by `tx.route`: lets nobody through who has no way, and fixes the way."""

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        if not recipient.routed or tx.route is None:
            return refuse(recipient, _NO_ROUTE)
        resolved = tx.output(DnsResolutionOutput)
        if resolved is not None and resolved.relay_lost:
            return _RELAY_LOST
        tx.notes[RouteGuard] = True
        return None


def build(options: filters.Router, context: Context, plugins: Plugins) -> Filter:
    """The filter as configured. Raises ConfigError."""
    return Router(_policy(options, context, plugins), dry_run=options.dry_run)


def _policy(options: filters.Router, context: Context, plugins: Plugins) -> RoutingPolicy:
    policy = options.policy
    if policy is None:
        return EveryRecipient(_REJECT_ALL if options.destination is None else make_route(options.destination, context))
    if isinstance(policy, filters.AddressListPolicy):
        return address_list.build(policy, context)
    if isinstance(policy, filters.DestDomainPolicy):
        return dest_domain.build(policy, context)
    if isinstance(policy, filters.HelloPolicy):
        return hello.HelloPolicy()
    return plugins.policy(policy.name, dict(policy.model_extra or {}), context)
