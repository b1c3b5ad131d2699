"""add_route: sends a copy through the chain of another sender, waited for or queued.

Waited for (the default), the copy goes first: a failure of the other chain is this transaction's failure, with its class; its
success is not reported. Queued (`store_and_forward`), the copy is made durable when the body is there, for the recipients that
are accepted by then; only trouble with the database is a failure, and it is temporary.

A copy has an id that is the same in every attempt of its transaction, so that a retry does not send it again: what is queued is
in the database; that a waited-for copy was delivered is noted there, behind, and read on the next attempt. A crash between the
delivery and that note may send it twice; the note lives as long as finished transactions do (`storage.gc_ttl`).
"""

from __future__ import annotations

from dataclasses import dataclass

from koukan.chain.filter import Context, Filter, SideChains
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import filters
from koukan.errors import ConfigError
from koukan.model import INTERNAL_ERROR, Body, Mailbox, Response, Sender, Step, Upstream


class _Copies:
    """Key of `tx.notes`: how many add_route filters of this chain have opened a copy."""


def _copy_id(tx: Transaction) -> str:
    """The id of the next copy of `tx`: filters run in the same order in every attempt."""
    number = tx.notes[_Copies] = int(tx.notes.get(_Copies, 0)) + 1
    return f"{tx.id}-copy{number}"


@dataclass(slots=True)
class _Side:
    """The copy of one transaction."""

    copy_id: str
    #: None: it is queued, by recipient
    upstream: Upstream | None
    #: the reverse-path has gone to it
    has_mail: bool = False


class AddRoute(Filter):
    """The filter as configured. A waited-for copy hears of the reverse-path with its first recipient, as every sink does."""

    def __init__(self, sender: Sender, *, stored: bool, side_chains: SideChains | None) -> None:
        self._sender = sender
        self._stored = stored
        self._chains = side_chains

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        copy_id = _copy_id(tx)
        upstream = None if self._stored else self._side_chains.open(tx, self._sender, copy_id)
        tx.notes[self] = _Side(copy_id, upstream)
        return None

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        side = self._side(tx)
        if side.upstream is None:
            return None
        step = Step(None if side.has_mail else tx.mail_from, [recipient.mailbox])
        side.has_mail = True
        result = await side.upstream.step(step)
        return _failure(result.mail) or _failure(result.rcpt[0])

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        side = self._side(tx)
        if side.upstream is None:
            return await self._store(tx, side, body)
        return _failure((await side.upstream.step(Step(body=body))).data or INTERNAL_ERROR)

    async def on_end(self, tx: Transaction) -> None:
        """Whatever became of the transaction: a copy that has not got its body never will."""
        side: _Side | None = tx.notes.get(self)
        if side is not None and side.upstream is not None:
            await side.upstream.cancel()

    async def _store(self, tx: Transaction, side: _Side, body: Body) -> Response | None:
        for recipient in tx.recipients:
            refused = recipient.response is not None and recipient.response.failed
            if refused or recipient.same_as is not None:
                continue
            upstream = self._side_chains.open_stored(tx, self._sender, f"{side.copy_id}-{recipient.index}")
            result = await upstream.step(Step(tx.mail_from, [recipient.mailbox], body))
            failure = _failure(result.data or INTERNAL_ERROR)
            if failure is not None:
                return failure
        return None

    def _side(self, tx: Transaction) -> _Side:
        side: _Side = tx.notes[self]
        return side

    @property
    def _side_chains(self) -> SideChains:
        if self._chains is None:
            raise ConfigError("add_route works in a router only")
        return self._chains


def _failure(answer: Response | None) -> Response | None:
    """What the other chain answered, if that was a failure."""
    if answer is None or answer.ok:
        return None
    return Response(answer.code, f"{answer.message} (AddRouteFilter upstream)")


def build(options: filters.AddRoute, context: Context) -> Filter | None:
    """The filter as configured; None without sender."""
    if options.sender is None:
        return None
    sender = Sender(options.sender, options.tag)
    return AddRoute(sender, stored=options.store_and_forward, side_chains=context.side_chains)
