"""rest_output, the sink that sends a transaction where it was routed: one host after the other, until one takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from koukan import clock
from koukan.chain.filter import Context, Sink
from koukan.chain.outputs import DnsResolutionOutput, DnsStatus
from koukan.chain.transaction import Route, Transaction
from koukan.config import filters
from koukan.config.references import effective_sender
from koukan.config.router import EffectiveSender, RestEndpoint
from koukan.errors import ConfigError
from koukan.model import INTERNAL_ERROR, HostPort, Response, Step, StepResult, Upstream
from koukan.model.values import parse_smtp_meta
from koukan.rest.client import RestUpstream
from koukan.rest.http import HttpClients
from koukan.rest.remote import Conversation, Target

#: hosts of one route that are tried in one attempt; as Postfix does with smtp_mx_address_limit and its default of 5
HOST_LIMIT = 5
#: seconds beyond data_timeout that an attempt waits to learn what became of its message: a gateway gives up at last 600 s after
#: the final dot (RFC 5321 §4.5.3.2.6), and whoever tries again before that may deliver twice
SETTLE_TIMEOUT = 660
#: port of the client address that a short circuit sets (config.md, sender remote_host)
_SHORT_CIRCUIT_PORT = 8000

_NO_ROUTE = Response(550, "5.1.1 mailbox does not exist (no route)")
_NO_HOST = Response(550, "5.1.2 the recipient's domain does not exist or takes no mail")
_DNS_TROUBLE = Response(450, "4.4.3 the recipient's domain cannot be resolved now")


class RestOutputSink(Sink):
    """The sink as configured."""

    interactive = False

    def __init__(self, options: filters.RestOutput, context: Context, clients: HttpClients) -> None:
        self.options = options
        self.clients = clients
        self.static_route = _static_route(options, context)
        self.authorizations = {
            endpoint.name: read_authorization(endpoint.authorization_file)
            for endpoint in context.config.rest_endpoint
            if endpoint.authorization_file is not None
        }
        # Where a destination is one of this router's own senders, that sender says what the inner transaction sees.
        self.own: Mapping[RestEndpointKey, EffectiveSender] = {
            (e.sender, e.tag): found
            for e in context.config.rest_endpoint
            if e.sender is not None and (found := effective_sender(context.config, e.sender, e.tag)) is not None
        }

    def open(self, tx: Transaction) -> Upstream:
        return RestOutput(self, tx)


RestEndpointKey = tuple[str | None, str | None]


class RestOutput(Upstream):
    """One transaction on its way to its endpoint."""

    def __init__(self, sink: RestOutputSink, tx: Transaction) -> None:
        self._sink = sink
        self._tx = tx
        self._upstream: RestUpstream | None = None
        self._refusal: Response | None = None
        self._sent_outputs: Mapping[str, Any] = {}

    async def step(self, step: Step) -> StepResult:
        route = self._sink.static_route or self._tx.route
        result = StepResult()
        if step.mail_from is not None or step.rcpt_to:
            result = await self._envelope(route, Step(step.mail_from, step.rcpt_to))
        if step.body is not None:
            result.data = await self._data(route, step)
        return result

    async def heartbeat(self) -> None:
        if self._upstream is not None:
            await self._upstream.heartbeat()

    async def cancel(self) -> None:
        if self._upstream is not None:
            await self._upstream.cancel()

    async def _envelope(self, route: Route | None, step: Step) -> StepResult:
        if self._upstream is not None:
            return await self._upstream.step(step)
        self._refusal = _undeliverable(self._tx, route)
        if route is None or self._refusal is not None:
            return StepResult.all(step, self._refusal or _NO_ROUTE)
        hosts: Sequence[HostPort | None] = route.hosts[:HOST_LIMIT] or (None,)
        deadline = clock.now() + self._sink.options.rcpt_timeout
        for position, host in enumerate(hosts):
            # Every host gets an equal share of the time that is left, so that a silent one does not use it up.
            share = max(1.0, (deadline - clock.now()) / (len(hosts) - position))
            self._upstream = self._open(route, host, share)
            if host is not None:
                self._tx.next_hop = host
            result = await self._upstream.step(step)
            if result.mail is None or not result.mail.temporary:
                break
            if position < len(hosts) - 1:
                await self._upstream.cancel()
        return result

    async def _data(self, route: Route | None, step: Step) -> Response:
        if self._upstream is None:
            return (self._refusal or _NO_ROUTE).precondition("RCPT")
        if route is not None and _option(route, "send_filter_output"):
            # Filters that looked at the body have added to what they knew, or put something new in its place.
            before, outputs = self._sent_outputs, self._outputs()
            if outputs != before:
                await self._upstream.send_filter_output(outputs)
        result = await self._upstream.step(Step(body=step.body))
        return result.data or INTERNAL_ERROR

    def _open(self, route: Route, host: HostPort | None, envelope_timeout: float) -> RestUpstream:
        options, endpoint = self._sink.options, route.endpoint
        target = Target(
            url=endpoint.endpoint or "",
            sender=endpoint.sender,
            tag=endpoint.tag,
            verify=options.verify if endpoint.verify is None else endpoint.verify,
            authorization=self._sink.authorizations.get(endpoint.name),
            rcpt_timeout=envelope_timeout,
            data_timeout=options.data_timeout,
            settle_timeout=SETTLE_TIMEOUT,
            chunk_size=options.chunk_size,
        )
        return RestUpstream(self._sink.clients, target, self._conversation(route, host), self._tx.may_send, self._tx.id)

    def _conversation(self, route: Route, host: HostPort | None) -> Conversation:
        tx = self._tx
        about = Conversation(host or tx.remote_host, tx.local_host, tx.smtp_meta)
        about = replace(about, transaction=tx.id, attempt=tx.earlier_attempts + 1)
        own = self._sink.own.get((route.endpoint.sender, route.endpoint.tag))
        if own is not None and own.remote_host is not None:
            about = replace(about, remote_host=HostPort(own.remote_host, _SHORT_CIRCUIT_PORT))
        if own is not None and own.smtp_meta is not None:
            about = replace(about, smtp_meta=parse_smtp_meta("smtp_meta", own.smtp_meta))
        if _option(route, "send_filter_output"):
            about = replace(about, filter_output=self._outputs() or None)
        return about

    def _outputs(self) -> dict[str, Any]:
        outputs = {key: output.to_json() for key, output in self._tx.outputs.items()}
        self._sent_outputs = outputs
        return outputs


def read_authorization(path: str) -> str:
    """The one line of an authorization_file. Raises ConfigError, which does not show it."""
    try:
        value = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"authorization_file: cannot read {path}: {getattr(error, 'strerror', 'no ASCII')}") from None
    if not value.isprintable() or " " not in value:
        raise ConfigError(f"authorization_file: {path} must hold one line, a scheme and credentials: Bearer TOKEN")
    return value


def _static_route(options: filters.RestOutput, context: Context) -> Route | None:
    if options.static_endpoint is None:
        return None
    endpoint = context.endpoint(options.static_endpoint) or RestEndpoint(
        name=options.static_endpoint, endpoint=options.static_endpoint
    )
    hosts = () if options.static_remote_host is None else (options.static_remote_host.host_port,)
    return Route(endpoint, hosts, endpoint.options)


def _undeliverable(tx: Transaction, route: Route | None) -> Response | None:
    """Why there is nowhere to go; None when there is."""
    if route is None or not route.endpoint.endpoint:
        return _NO_ROUTE
    resolved = tx.output(DnsResolutionOutput)
    if not route.hosts and resolved is not None:
        if resolved.resolution_result is DnsStatus.NX:
            return _NO_HOST
        if resolved.resolution_result is DnsStatus.TEMP:
            return _DNS_TROUBLE
    return None


def _option(route: Route, name: str) -> bool:
    return bool(route.options.get(name))
