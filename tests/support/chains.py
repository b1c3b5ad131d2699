"""Chains for tests: filters made from options as they stand in router.yaml, between a client and a sink that records."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from koukan.blob.bodies import BytesBody
from koukan.chain.engine import Chain, ChainRun
from koukan.chain.filter import Context, Filter, SideChains, Sink
from koukan.chain.plugins import Plugins
from koukan.chain.registry import build_filter
from koukan.chain.transaction import Recipient, Route, Transaction
from koukan.config.router import ChainConfig, RestEndpoint, RouterConfig
from koukan.model import Body, HostPort, Mailbox, Response, Sender, SmtpMeta, Step, StepResult, Upstream
from koukan.net.dns import Resolver

MESSAGE = b"From: ann@a.example\r\nSubject: hello\r\n\r\nHello\r\n"


class RecordingSink:
    """Keeps what it is sent and gives the answers it is told to; `answers` has one for an address or for `data`.

    Without `keep` it reads bodies and forgets them.
    """

    interactive = False

    def __init__(self, answers: Mapping[str, Response] | None = None, *, keep: bool = True) -> None:
        self.answers = answers or {}
        self.keep = keep
        self.mail_from: list[Mailbox] = []
        self.rcpt_to: list[Mailbox] = []
        self.bodies: list[bytes] = []
        #: hosts of the route when the recipients of a step arrived
        self.hosts: list[tuple[HostPort, ...] | None] = []
        self.heartbeats = 0
        self.cancelled = 0

    def open(self, tx: Transaction) -> Upstream:
        return _Recorder(self, tx)


class _Recorder(Upstream):
    def __init__(self, sink: RecordingSink, tx: Transaction) -> None:
        self._sink = sink
        self._tx = tx

    async def step(self, step: Step) -> StepResult:
        sink, ok = self._sink, Response(250, "ok")
        result = StepResult()
        if step.mail_from is not None:
            sink.mail_from.append(step.mail_from)
            result.mail = sink.answers.get(step.mail_from.address, ok)
        if step.rcpt_to:
            sink.hosts.append(self._tx.route.hosts if self._tx.route else None)
        for mailbox in step.rcpt_to:
            sink.rcpt_to.append(mailbox)
            result.rcpt.append(sink.answers.get(mailbox.address, ok))
        if step.body is not None:
            if sink.keep:
                sink.bodies.append(await step.body.read())
            else:
                async for _ in step.body.chunks():
                    pass
            result.data = sink.answers.get("data", ok)
        return result

    async def heartbeat(self) -> None:
        self._sink.heartbeats += 1

    async def cancel(self) -> None:
        self._sink.cancelled += 1


class StaticRoute(Filter):
    """Sends every recipient to the same hosts; `@` as a host stands for the recipient's own domain."""

    def __init__(self, *hosts: HostPort) -> None:
        self._hosts = hosts

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> None:
        domain = recipient.mailbox.address.rpartition("@")[2]
        hosts = tuple(HostPort(domain, h.port) if h.host == "@" else h for h in self._hosts)
        tx.route = Route(RestEndpoint(name="gateway", endpoint="http://gateway.invalid/"), hosts)


class RecordedSides(SideChains):
    """Keeps what is opened; copies go into a recording sink each."""

    def __init__(self, *, keep: bool = True, **answers: Response) -> None:
        self.keep = keep
        self.answers = {key.replace("_at_", "@").replace("_", "."): answer for key, answer in answers.items()}
        self.waited: dict[str, RecordingSink] = {}
        self.stored: dict[str, RecordingSink] = {}
        self.senders: list[Sender] = []

    def open(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        return self._open(self.waited, tx, sender, copy_id)

    def open_stored(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        return self._open(self.stored, tx, sender, copy_id)

    def _open(self, copies: dict[str, RecordingSink], tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        assert copy_id not in copies
        self.senders.append(sender)
        copies[copy_id] = RecordingSink(self.answers, keep=self.keep)
        return copies[copy_id].open(tx)


def make_context(resolver: Resolver | None = None, **config: Any) -> Context:
    """What filters are given, with a configuration that has these stanzas; random choices are always the same."""
    document = {
        "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
        "storage": {"url": "sqlite://"},
        **config,
    }
    return Context(RouterConfig.model_validate(document), resolver, random=random.Random(1))


def make_chain(items: Sequence[Filter | Mapping[str, Any]], sink: Sink, context: Context | None = None) -> Chain:
    """A chain of filters, or of options as they stand in router.yaml."""
    context = context or make_context()
    options = [item for item in items if not isinstance(item, Filter)]
    config = ChainConfig.model_validate({"name": "test", "chain": [*options, {"filter": "rest_output"}]})
    typed = iter(config.chain)
    links = [item if isinstance(item, Filter) else build_filter(next(typed), context, Plugins()) for item in items]
    return Chain(config, [link for link in links if link is not None], sink)


def make_transaction(
    client: str | None = "192.0.2.1", ehlo: str | None = "client.example", *, local: HostPort | None = None
) -> Transaction:
    return Transaction(
        "tx1",
        Sender("test"),
        remote_host=HostPort(client, 40000) if client is not None else None,
        local_host=local,
        smtp_meta=SmtpMeta(ehlo, esmtp=True) if ehlo is not None else None,
    )


def make_step(mail_from: str | None = None, rcpt_to: Sequence[str] = (), body: bytes | Body | None = None) -> Step:
    return Step(
        None if mail_from is None else Mailbox(mail_from),
        [Mailbox(address) for address in rcpt_to],
        BytesBody(body) if isinstance(body, bytes) else body,
    )


async def send(
    chain: Chain, tx: Transaction, mail_from: str = "ann@a.example", rcpt_to: Sequence[str] = ("bob@b.example",)
) -> StepResult:
    """One transaction in one step, to its end."""
    run: ChainRun = chain.open(tx)
    result = await run.step(make_step(mail_from, rcpt_to, MESSAGE))
    await run.cancel()
    return result
