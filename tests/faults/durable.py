"""A router in front of a sender with retries of its own, as a chain that hands on meets it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config.router import RouterConfig
from koukan.model import HostPort
from koukan.net.dns import Resolver
from koukan.rest.server import RestServer
from koukan.router.app import Dispatcher, Ledger, Notifier, Roles, RouterService, id_maker
from koukan.router.chains import compile_chains
from koukan.storage.store import CANCELLED, AttemptEnd, BlobState, StoredTransaction
from tests.faults.hops import LOOPBACK, RouterToServer, router_document
from tests.support.memory_store import MemoryStore

BODY = "body"


@dataclass
class DurableStore(MemoryStore):
    """Takes uploads and cancels as well; each transaction has one blob, its body."""

    states: dict[str, BlobState] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)

    async def append(self, tx_id: str, blob: str, offset: int, data: bytes, length: int | None) -> BlobState:
        before = self.states.get(tx_id, BlobState(0, None))
        if offset <= before.size:
            self.states[tx_id] = BlobState(max(before.size, offset + len(data)), length)
            self.rows[tx_id].version += not self.rows[tx_id].leased
        return self.states.get(tx_id, before)

    async def load(self, tx_id: str) -> StoredTransaction | None:
        found, row = await super().load(tx_id), self.rows.get(tx_id)
        if found is None or row is None:
            return found
        return replace(
            found,
            blobs={BODY: self.states.get(tx_id, BlobState(0, None))},
            cancelled=found.final_reason == CANCELLED,
            lease_uri="http://here" if row.leased else None,
            leased_here=row.leased,
        )

    async def cancel_leased(self, tx_id: str) -> bool:
        row = self.rows.get(tx_id)
        if row is not None and row.leased:
            self.marked.add(tx_id)
        return row is not None and row.leased

    async def cancel(self, tx_id: str) -> bool:
        row = self.rows.get(tx_id)
        if row is None or row.leased or row.final_reason is not None:
            return False
        row.final_reason, row.version = CANCELLED, row.version + 1
        return True

    async def finish_attempt(self, end: AttemptEnd) -> str | None:
        if end.final_reason is None and end.id in self.marked:
            end = replace(end, final_reason=CANCELLED)
        await super().finish_attempt(end)
        self.rows[end.id].version = max(self.rows[end.id].version + 1, end.version)
        return end.final_reason


class RouterToDurable(RouterToServer):
    """A router's rest_output to a sender of another router that has retries and notification."""

    url = "senders/apps/transactions"

    async def start(self) -> HostPort:
        self.store = DurableStore()
        document = router_document(self.proxy.address)
        document["sender"] = [
            {"name": "apps", "output_chain": "deliver", "retry": "output_chain", "notification": "output_chain"}
        ]
        config = RouterConfig.model_validate(document)
        ledger = Ledger(self.store, Notifier(config.global_, id_maker(1, 4)))
        self.dispatcher = Dispatcher(self.store, ledger, 5)
        context = Context(config, Resolver(config.global_.dns))
        chains = compile_chains(context, Plugins.load(config.modules), lambda chain, options: self.next_hop)
        self.dispatcher.bind(Roles(config, chains))
        self.server = RestServer(RouterService(config, self.store, self.dispatcher, id_maker(1, 8)))
        await self.server.start(HostPort(LOOPBACK, 0))
        self._watch = asyncio.ensure_future(self.dispatcher.watch())
        return self.server.address

    async def stop(self) -> None:
        self._watch.cancel()
        await self.server.stop()
        await self.dispatcher.stop()

    @property
    def busy(self) -> bool:
        return self.dispatcher.busy > 0

    def taken(self) -> Counter[str]:
        waiting = [row for row in self.store.rows.values() if row.final_reason is None]
        complete = [row for row in waiting if self.store.states.get(row.id, BlobState(0, None)).complete]
        return super().taken() + Counter(mailbox.address for row in complete for mailbox in row.envelope.rcpt_to)
