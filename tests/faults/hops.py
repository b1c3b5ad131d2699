"""Two programs of the house and what is between them: a conversation goes through, and is compared with what became of it.

The next hop is pessimistic, as the world is: what it has read to the end it delivers, whether or not anybody waits for its
answer.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from koukan.blob.bodies import BytesBody
from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.chain.transaction import Route, Transaction
from koukan.config.filters import Exploder, FilterOptions, RestOutput
from koukan.config.gateway import SmtpServiceConfig
from koukan.config.router import ChainConfig, RestEndpoint, RouterConfig
from koukan.dev.receiver import ReceivedTransaction, Receiver
from koukan.gateway import ingress as receiving
from koukan.gateway.ingress import Ingress
from koukan.gateway.service import GatewayService
from koukan.message.bodies import ParsedBody
from koukan.model import Body, HostPort, Mailbox, Response, Sender, SmtpMeta, Step, StepResult, Upstream
from koukan.net.dns import Resolver
from koukan.rest.http import HttpClients
from koukan.rest.output import RestOutputSink
from koukan.rest.remote import Conversation as RestConversation
from koukan.rest.remote import Target
from koukan.rest.server import RestServer
from koukan.router import dispatcher as dispatching
from koukan.router.app import Dispatcher, Ledger, Notifier, Roles, RouterService, id_maker
from koukan.router.chains import RELAY_TIMEOUTS, compile_chains
from koukan.router.exploder import ExploderSink
from koukan.router.sidechains import RouterSideChains
from koukan.smtp.transaction import Conversation, MailTransaction
from tests.faults.proxy import Fault, Proxy
from tests.support.memory_store import MemoryStore

LOOPBACK = "127.0.0.1"
ANN = Mailbox("ann@example.net")
MESSAGE = b"From: ann@example.net\r\nSubject: hello\r\n\r\nHello\r\n"
#: seconds after which nothing is under way any more, whatever happened
QUIET = 1500.0


def recipients(count: int) -> list[str]:
    return [f"r{number}@example.com" for number in range(count)]


@dataclass
class NextHop:
    """Where all mail ends. `answers` by recipient, or for `data`; `seconds` between the end of the data and its answer."""

    answers: Mapping[str, Response] = field(default_factory=dict)
    seconds: float = 0
    #: called when the body is there, before it is taken
    before_body: Callable[[], None] = lambda: None
    delivered: Counter[str] = field(default_factory=Counter)
    pending: set[asyncio.Task[None]] = field(default_factory=set)

    interactive = False

    def open(self, tx: Transaction) -> Upstream:
        return _Delivery(self, tx.may_send)

    def answer(self, name: str) -> Response:
        return self.answers.get(name, Response(250, f"2.0.0 {name}"))


class _Delivery(Upstream):
    """One transaction at the next hop."""

    def __init__(self, hop: NextHop, may_send: Callable[[], bool] = lambda: True) -> None:
        self._hop = hop
        self._may_send = may_send
        self._accepted: list[str] = []

    async def step(self, step: Step) -> StepResult:
        hop, result = self._hop, StepResult()
        if step.mail_from is not None:
            result.mail = hop.answer("mail")
        for mailbox in step.rcpt_to:
            result.rcpt.append(hop.answer(mailbox.address))
            if result.rcpt[-1].ok:
                self._accepted.append(mailbox.address)
        if step.body is not None:
            hop.before_body()
            if not self._may_send():
                result.data = Response(451, "4.3.0 held back")
                return result
            async for _ in step.body.chunks():
                pass
            delivering = asyncio.ensure_future(self._deliver())
            hop.pending.add(delivering)
            delivering.add_done_callback(hop.pending.discard)
            await asyncio.shield(delivering)
            result.data = self._data_answer
        return result

    @property
    def _data_answer(self) -> Response:
        own = [self._hop.answers.get(f"data {address}") for address in self._accepted]
        return next((answer for answer in own if answer is not None), self._hop.answer("data"))

    async def _deliver(self) -> None:
        if self._hop.seconds:
            await asyncio.sleep(self._hop.seconds)
        if self._data_answer.ok:
            self._hop.delivered.update(self._accepted)

    async def heartbeat(self) -> None:
        """Nobody hears it."""

    async def cancel(self) -> None:
        """What has been read to the end is delivered all the same."""


@dataclass
class Told:
    """What the client has heard: a code for each recipient, and for the data (None: it was not sent)."""

    rcpt: dict[str, int]
    data: int | None

    def accepted(self, address: str) -> bool:
        return self.rcpt[address] < 300 and self.data is not None and self.data < 300


class Hop(ABC):
    """A client, a proxy that misbehaves, a server, and the next hop behind it."""

    def __init__(self, faults: Mapping[int, Fault], next_hop: NextHop) -> None:
        self.next_hop = next_hop
        self.faults = faults
        self.clients = HttpClients()
        self.proxy: Proxy

    @abstractmethod
    async def start(self) -> HostPort:
        """Start the server; where it listens. It is told the proxy's address as its own by `proxy`."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop what `start` has started."""

    @abstractmethod
    async def converse(self, addresses: Sequence[str]) -> Told:
        """One message to all of them, and what the client hears."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Something is still under way."""

    def taken(self) -> Counter[str]:
        """How often each recipient was delivered to, or is kept to be delivered."""
        return Counter(self.next_hop.delivered)

    async def run(self, addresses: Sequence[str]) -> Told:
        """The whole story, until everything is quiet."""
        # Background loops look less often than they do: their looks would be most of the cost of a case.
        with mock.patch.object(dispatching, "TICK", 15.0), mock.patch.object(receiving, "_TICK", 15.0):
            return await self._run(addresses)

    async def _run(self, addresses: Sequence[str]) -> Told:
        self.proxy = Proxy(HostPort("", 0), self.faults)
        async with self.proxy:
            self.proxy.target = await self.start()
            try:
                told = await self.converse(addresses)
                deadline = asyncio.get_running_loop().time() + QUIET
                while self.busy or self.next_hop.pending:
                    assert asyncio.get_running_loop().time() < deadline, "something never ends"
                    await asyncio.sleep(20)
            finally:
                await self.stop()
                await self.clients.close()
        return told


class GatewayToRouter(Hop):
    """SMTP transactions of a gateway's listener, REST to a router with an exploder and the next hop behind its chain."""

    def __init__(self, faults: Mapping[int, Fault], next_hop: NextHop, *, msa: bool = False) -> None:
        super().__init__(faults, next_hop)
        self.msa = msa
        self.store = MemoryStore()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> HostPort:
        config = RouterConfig.model_validate(router_document(self.proxy.address))
        ledger = Ledger(self.store, Notifier(config.global_, id_maker(1, 4)))
        self.dispatcher = Dispatcher(self.store, ledger, 5)
        context = Context(config, Resolver(config.global_.dns), RouterSideChains(self.store, self.dispatcher))
        chains = compile_chains(context, Plugins.load(config.modules), self._sink)
        self.dispatcher.bind(Roles(config, chains))
        service = RouterService(config, self.store, self.dispatcher, id_maker(1, 8))
        self.server = RestServer(service)
        await self.server.start(HostPort(LOOPBACK, 0))
        self.ingress = Ingress(self.clients)
        self._tasks = [asyncio.ensure_future(self.dispatcher.watch()), asyncio.ensure_future(self.ingress.watch())]
        return self.server.address

    def _sink(self, chain: ChainConfig, options: FilterOptions) -> Any:
        if isinstance(options, Exploder):
            rcpt, data = RELAY_TIMEOUTS
            return ExploderSink(self.dispatcher, msa=self.msa, rcpt_timeout=rcpt, data_timeout=data)
        return self.next_hop

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.server.stop()
        await self.dispatcher.stop()

    async def converse(self, addresses: Sequence[str]) -> Told:
        listener = _Listener(self.ingress, self.clients, f"http://{self.proxy.address}/senders/ingress/transactions")
        transaction: Any = MailTransaction(listener)
        conversation = Conversation(HostPort("192.0.2.1", 2525), None, SmtpMeta("client.example", True, False, None))
        assert (await transaction.mail("FROM:<ann@example.net>", conversation)).ok
        told = Told({address: (await transaction.rcpt(f"TO:<{address}>")).code for address in addresses}, None)
        if transaction.refuses_data() is None:
            reader = asyncio.StreamReader()
            reader.feed_data(MESSAGE + b".\r\n")
            told.data = (await transaction.receive(reader)).code
        else:
            transaction.abandon()
        await listener.ended()
        return told

    @property
    def busy(self) -> bool:
        # What is made durable goes on though nobody waits for it any more.
        return bool(self.dispatcher.busy or self.dispatcher.working)

    def taken(self) -> Counter[str]:
        return super().taken() + Counter(mailbox.address for mailbox in self.store.open_recipients())


def router_document(address: HostPort) -> dict[str, Any]:
    tags = [
        {"name": "mx", "output_chain": "explode", "upstream_tag": "out"},
        {"name": "out", "output_chain": "deliver"},
    ]
    return {
        "global": {"mailer_daemon_mailbox": "mailer-daemon@example.com"},
        "rest_listener": {"addr": [LOOPBACK, 1], "session_uri": f"http://{address}"},
        "storage": {"url": "sqlite:///unused"},
        "sender": [{"name": "ingress", "tag": tags}],
        "endpoint": [
            {"name": "explode", "chain": [{"filter": "exploder"}]},
            {"name": "deliver", "chain": [{"filter": "rest_output", "static_endpoint": "http://unused.example"}]},
        ],
    }


class _Listener:
    """What a mail transaction needs of its listener."""

    def __init__(self, ingress: Ingress, clients: HttpClients, url: str) -> None:
        self.config = SmtpServiceConfig(addr=HostPort(LOOPBACK, 0), endpoint="router", sender="ingress")
        self._ingress = ingress
        self._url = url
        self._background: set[asyncio.Task[Any]] = set()

    def open_upstream(self, conversation: Conversation) -> Upstream:
        target = Target(
            url=self._url,
            sender="ingress",
            tag="mx",
            rcpt_timeout=self.config.rcpt_timeout,
            data_timeout=self.config.data_timeout,
        )
        about = RestConversation(conversation.remote_host, conversation.local_host, conversation.smtp_meta)
        return self._ingress.open(target, about, 30)

    def background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def ended(self) -> None:
        while self._background:
            await asyncio.wait(self._background)


class RouterToServer(Hop):
    """A router's rest_output, and whatever it sends to."""

    url = "senders/router/transactions"

    def body(self) -> Body:
        return BytesBody(MESSAGE)

    async def converse(self, addresses: Sequence[str]) -> Told:
        context = Context(RouterConfig.model_validate(router_document(self.proxy.address)))
        sink = RestOutputSink(RestOutput(filter="rest_output"), context, self.clients)
        tx = Transaction("1-test", Sender("ingress"))
        endpoint = RestEndpoint(name="next", endpoint=f"http://{self.proxy.address}/{self.url}", sender="x", tag="out")
        tx.route = Route(endpoint, (HostPort(LOOPBACK, 25),))
        upstream = sink.open(tx)
        try:
            envelope = await upstream.step(Step(ANN, [Mailbox(address) for address in addresses]))
            codes = [answer.code for answer in envelope.rcpt]
            told = Told(dict(zip(addresses, codes, strict=True)), None)
            if any(code < 300 for code in codes):
                answer = (await upstream.step(Step(body=self.body()))).data
                told.data = None if answer is None else answer.code
        finally:
            await upstream.cancel()
        return told


class RouterToGateway(RouterToServer):
    """A router's rest_output to a gateway."""

    async def start(self) -> HostPort:
        self.service = GatewayService(self._open, session_uri=f"http://{self.proxy.address}")
        self.server = RestServer(self.service)
        await self.server.start(HostPort(LOOPBACK, 0))
        self._reaper = asyncio.ensure_future(self.service.reap())
        return self.server.address

    def _open(self, tag: str, host: HostPort | None) -> Upstream:
        return _Delivery(self.next_hop)

    async def stop(self) -> None:
        self._reaper.cancel()
        await self.server.stop()
        await self.service.stop()

    @property
    def busy(self) -> bool:
        return self.service.busy > 0


class RouterToApplication(RouterToServer):
    """A router's rest_output to an application."""

    url = "senders/app/transactions"

    async def start(self) -> HostPort:
        self.receiver = Receiver(None, self._arrived)
        await self.receiver.start(HostPort(LOOPBACK, 0))
        return self.receiver.address

    def _arrived(self, received: ReceivedTransaction) -> None:
        if received.message is not None:
            assert received.blobs == {"file": b"attached"}
        assert received.body == MESSAGE
        self.next_hop.delivered.update(mailbox["m"] for mailbox in received.envelope["rcpt_to"])

    async def stop(self) -> None:
        await self.receiver.stop()

    @property
    def busy(self) -> bool:
        return False


class RouterToParsingApplication(RouterToApplication):
    """The same with the message parsed, and a file in it."""

    def body(self) -> Body:
        spec = {"parts": {"content_type": "text/plain", "content": {"create_id": "file"}}}
        return ParsedBody(BytesBody(MESSAGE), spec, {"file": BytesBody(b"attached")})
