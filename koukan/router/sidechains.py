"""Copies for add_route: a second transaction through the chain of another sender, waited for or queued."""

from __future__ import annotations

from dataclasses import replace

from koukan.chain.filter import SideChains
from koukan.chain.transaction import Transaction
from koukan.errors import BodyAborted, ConfigError, StoreError
from koukan.model import BODY_ABORTED, Body, Mailbox, Response, Sender, Step, StepResult, Upstream
from koukan.router.dispatcher import Dispatcher
from koukan.router.outcome import SUCCESS
from koukan.router.roles import Role
from koukan.storage.store import Envelope, NewTransaction, Responses, Store

_OK = Response(250, "2.0.0 ok (AddRouteFilter store&forward)")
_DELIVERED_BEFORE = Response(250, "2.0.0 ok (AddRouteFilter delivered by an earlier attempt)")
_UNKNOWN = Response(451, "4.3.0 whether the copy was delivered cannot be looked up, try again later")
_NOT_STORED = Response(451, "4.3.0 the copy could not be stored, try again later")


class RouterSideChains(SideChains):
    """The chains of this router's own senders."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    def open(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        role = self._role(sender)
        side = replace(
            tx,
            id=copy_id,
            sender=sender,
            recipients=[],
            mail_from=None,
            outputs={},
            route=None,
            next_hop=None,
            notes={},
        )
        return _WaitedCopy(self._store, role.chain.open(side), side)

    def open_stored(self, tx: Transaction, sender: Sender, copy_id: str) -> Upstream:
        return _StoredCopy(self._store, self._dispatcher, self._role(sender), tx, copy_id)

    def _role(self, sender: Sender) -> Role:
        role = self._dispatcher.roles.find(sender.name, sender.tag)
        if role is None:
            raise ConfigError(f"add_route: {sender} is no sender of this router")
        return role


class _WaitedCopy(Upstream):
    """A copy that the original waits for. Once delivered it is noted, so that a later attempt does not deliver it again."""

    def __init__(self, store: Store, upstream: Upstream, side: Transaction) -> None:
        self._store = store
        self._upstream = upstream
        self._side = side
        #: None: not looked up yet; a first attempt has no earlier one to ask about
        self._delivered: bool | None = None if side.earlier_attempts else False

    async def step(self, step: Step) -> StepResult:
        if self._delivered is None:
            try:
                self._delivered = await self._was_delivered()
            except StoreError:
                return StepResult.all(step, _UNKNOWN)
        if self._delivered:
            return StepResult.all(step, _DELIVERED_BEFORE)
        result = await self._upstream.step(step)
        if result.data is not None and result.data.ok:
            self._note(result.data)
        return result

    async def heartbeat(self) -> None:
        await self._upstream.heartbeat()

    async def cancel(self) -> None:
        await self._upstream.cancel()

    async def _was_delivered(self) -> bool:
        stored = await self._store.load(self._side.id)
        return stored is not None and stored.final_reason == SUCCESS

    def _note(self, answer: Response) -> None:
        side = self._side
        recipients = tuple(r.mailbox for r in side.recipients)
        self._store.record(
            NewTransaction(
                id=side.id,
                envelope=Envelope(
                    side.sender, side.mail_from, recipients, side.remote_host, side.local_host, side.smtp_meta
                ),
                attempts=1,
                responses=Responses(
                    rcpt=tuple(r.response for r in side.recipients if r.response is not None), data=answer
                ),
                final_reason=SUCCESS,
            )
        )


class _StoredCopy(Upstream):
    """A copy that is answered once it is durable; a second attempt of the original finds it and adds none."""

    def __init__(self, store: Store, dispatcher: Dispatcher, role: Role, tx: Transaction, copy_id: str) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._role = role
        self._tx = tx
        self._id = copy_id
        self._mail: Mailbox | None = None
        self._rcpts: list[Mailbox] = []

    async def step(self, step: Step) -> StepResult:
        self._mail = step.mail_from or self._mail
        self._rcpts += step.rcpt_to
        result = StepResult.all(step, _OK)
        if step.body is not None:
            result.data = await self._keep(step.body)
        return result

    async def heartbeat(self) -> None:
        """There is nobody to hear it."""

    async def cancel(self) -> None:
        """Nothing is held: the copy is stored, or it never was."""

    async def _keep(self, body: Body) -> Response:
        sender = self._role.sender
        rows = [
            NewTransaction(
                id=f"{self._id}-{number}",
                envelope=Envelope(
                    sender.sender,
                    self._mail,
                    (mailbox,),
                    self._tx.remote_host,
                    self._tx.local_host,
                    self._tx.smtp_meta,
                ),
                body=body,
                retry=sender.retry,
                notification=sender.notification,
                destination=mailbox.domain or "",
            )
            for number, mailbox in enumerate(self._rcpts)
        ]
        try:
            await body.wait_complete()
            if await self._store.load(rows[0].id) is None:
                await self._store.keep(rows)
        except BodyAborted:
            return BODY_ABORTED
        except StoreError:
            return _NOT_STORED
        self._dispatcher.queued.set()
        return _OK
