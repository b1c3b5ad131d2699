"""The filter seam: what a link of an output chain is, for built-in filters and plug-ins alike.

A filter is made once when the configuration is loaded and serves all transactions of its chain, concurrently: what belongs to
one transaction is kept in `tx.outputs`, `tx.route` or `tx.notes`, never in the filter. It overrides the hooks of the moments
it cares about; the engine calls no other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from koukan.chain.transaction import Recipient, Transaction
from koukan.config.router import RestEndpoint, RouterConfig
from koukan.model import Body, Mailbox, Response, Sender, Upstream

if TYPE_CHECKING:
    from koukan.net.dns import Resolver


class Filter:
    """One link of a chain. Every hook may answer (a Response ends the matter), change what goes on, or pass (None).

    An exception from a hook is a 451 for that message and a log line, never a dead worker.
    """

    #: `on_body` needs the whole body; False lets the sink stream while the client still sends
    needs_complete_body: bool = True
    #: `on_body` is about the bytes of a message: what is still a document for message_builder passes it untouched
    reads_message: bool = False

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        """The reverse-path has arrived. A failure answers MAIL, and everything that depends on it with the same class."""
        return None

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        """A recipient has arrived. A response takes it out of what goes on."""
        return None

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        """The body has arrived. A failure answers the data; a body takes the place of this one for what follows."""
        return None

    async def on_end(self, tx: Transaction) -> None:
        """The attempt is over, whatever became of it: free what `tx.notes` holds."""

    def hooks(self) -> frozenset[str]:
        """Names of the hooks that this instance needs; those it overrides, unless its options make one useless."""
        return frozenset(
            name
            for name in ("on_mail", "on_rcpt", "on_body", "on_end")
            if getattr(type(self), name) is not getattr(Filter, name)
        )


class Sink(Protocol):
    """The end of a chain: opens the way on for one transaction."""

    #: the chain takes recipients one by one from a waiting client and keeps its transactions in memory
    interactive: bool

    def open(self, tx: Transaction) -> Upstream:
        """A fresh upstream for this transaction. `tx.route` is read when the first step arrives."""
        ...


class SideChains(Protocol):
    """How add_route reaches the chain of another sender; provided by the router."""

    def open(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        """A second transaction with the conversation of `tx`, through the chain of `sender`, not queued.

        What an earlier attempt of `tx` has delivered under this `copy_id` is not sent again.
        """
        ...

    def open_stored(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        """The same, queued: answered 250 once durable. `copy_id` makes it idempotent over attempts of `tx`."""
        ...


@dataclass(slots=True)
class Context:
    """What a filter may use, given to its factory."""

    config: RouterConfig
    #: None where the caller only checks a configuration
    resolver: Resolver | None = None
    side_chains: SideChains | None = None
    #: current time, aware, UTC
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: random.Random = field(default_factory=random.Random)

    @property
    def dns(self) -> Resolver:
        """The resolver, for hooks. Raises RuntimeError where the caller only checks a configuration."""
        if self.resolver is None:
            raise RuntimeError("these filters were made to check a configuration, not to run")
        return self.resolver

    def endpoint(self, name: str) -> RestEndpoint | None:
        """The rest_endpoint of that name."""
        return next((e for e in self.config.rest_endpoint if e.name == name), None)


#: what `modules.sync_filter` names: options as they stand in the file, without `filter`
PluginFactory = Callable[[Mapping[str, Any], Context], Filter | None]
