"""The router as its REST clients see it: creates transactions, finds them wherever they are, takes uploads."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from koukan import clock
from koukan.blob.bodies import BytesBody
from koukan.blob.spool import SpooledBody
from koukan.chain.transaction import Transaction
from koukan.config.router import RouterConfig
from koukan.errors import StoreError
from koukan.message.bodies import SpecBody
from koukan.message.builder import BlobSource, BuilderSpec, parse_spec
from koukan.model import Body, Response
from koukan.model.documents import BuilderBody, CreateRequest, InlineBody, ReuseBody, UpdateRequest
from koukan.rest.blobs import BODY, BlobSize, BlobView, BlobWriter, FinishedBlob, is_complete
from koukan.rest.problems import BadRequest, Conflict, Moved, NotFound, TooLarge, Unavailable
from koukan.rest.resource import Resource, check_recipients
from koukan.rest.service import TransactionService
from koukan.router.admission import admit, check_size
from koukan.router.dispatcher import Delivery, Dispatcher
from koukan.router.roles import Role
from koukan.router.uploads import DurableWriter, SpoolWriter, StoreWriter
from koukan.router.work import Work
from koukan.storage.store import BlobRef, BlobState, Envelope, NewTransaction, Responses, Store, StoredTransaction

#: seconds between looks at a transaction that another process, or nobody, works on while a client long-polls it
_POLL_STORED = 1.0
#: `not_ready` asks the database at most so often, in seconds
_HEALTH_CACHE = 2.0


def id_maker(session_id: int, entropy: int) -> Callable[[], str]:
    """Makes public ids of `entropy` random bytes. They begin with our session, so that any replica redirects without a row."""
    prefix = f"{session_id:x}-"
    return lambda: prefix + secrets.token_urlsafe(entropy)


class RouterService(TransactionService):
    """Transactions of all clients of one router process."""

    def __init__(self, config: RouterConfig, store: Store, dispatcher: Dispatcher, new_id: Callable[[], str]) -> None:
        listener = config.rest_listener
        self.session_uri = listener.session_uri.rstrip("/")
        self.service_uri = (listener.service_uri or listener.session_uri).rstrip("/")
        self.max_message_size = config.global_.max_message_size
        self._config = config.global_
        self._store = store
        self._dispatcher = dispatcher
        self._new_id = new_id
        self._draining = False
        self._health: tuple[float, str | None] = (0.0, None)

    def drain(self) -> None:
        """Take no new transactions from now on."""
        self._draining = True

    async def not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        asked, reason = self._health
        if clock.now() - asked > _HEALTH_CACHE:
            try:
                await self._store.ping()
                reason = None
            except StoreError as error:
                reason = f"no database: {error}"
            self._health = (clock.now(), reason)
        return reason

    # --- create --------------------------------------------------------------------------------------------------------

    async def create(self, sender: str, request: CreateRequest) -> Resource:
        if self._draining:
            raise Unavailable("this router is shutting down")
        if self._dispatcher.busy >= self._config.max_inflight:
            raise Unavailable("too many transactions in flight")
        role = self._role(sender, request.tag)
        check_recipients(len(request.rcpt_to), self._config.max_recipients)
        request = await admit(request)
        tx_id = self._new_id()
        tx = Transaction(
            id=tx_id,
            sender=role.sender.sender,
            remote_host=request.remote_host,
            local_host=request.local_host,
            smtp_meta=request.smtp_meta,
            client_output=request.filter_output,
        )
        interactive = role.chain.sink.interactive
        resource = Resource(
            id=tx_id,
            incremental=interactive,
            remote_host=request.remote_host,
            local_host=request.local_host,
            mail_from=request.mail_from,
            rcpt_to=list(request.rcpt_to),
            max_recipients=self._config.max_recipients,
            attempt_count=1,
            patience=role.chain.config.output_handler.downstream_timeout,
        )
        if interactive:
            await self._interactive_body(resource, sender, request)
            self._dispatcher.start(Delivery(resource, role, tx))
        else:
            await self._create_durable(resource, role, tx, request)
        return resource

    def _role(self, sender: str, tag: str | None) -> Role:
        role = self._dispatcher.roles.find(sender, tag)
        if role is None:
            if not self._dispatcher.roles.has_sender(sender):
                raise NotFound(f"unknown sender {sender!r}")
            raise BadRequest(f"sender.tag: unknown tag {tag!r} of sender {sender!r}")
        return role

    async def _interactive_body(self, resource: Resource, sender: str, request: CreateRequest) -> None:
        form = request.body
        if isinstance(form, InlineBody):
            resource.body = self._inline(form)
            resource.blobs[BODY] = _settled(resource.body)
        elif isinstance(form, ReuseBody):
            resource.body = self._store.read_blob(await self._reuse(form.uri, sender, body=True))
            resource.blobs[BODY] = _settled(resource.body)
        elif isinstance(form, BuilderBody):
            spec = self._parse(form)
            blobs = {name: await self._source(source, sender) for name, source in spec.sources.items()}
            self._use_spec(resource, spec.document, blobs, durable=False)
        else:
            resource.blobs[BODY] = SpoolWriter(resource, BODY, self._spool())

    async def _create_durable(self, resource: Resource, role: Role, tx: Transaction, request: CreateRequest) -> None:
        if request.mail_from is None or len(request.rcpt_to) != 1:
            missing = "mail_from: is missing" if request.mail_from is None else f"rcpt_to: holds {len(request.rcpt_to)}"
            raise BadRequest(
                f"{missing}; this sender takes mail_from and exactly one rcpt_to; send one transaction per recipient"
            )
        sender = role.sender
        resource.retry, resource.notification = sender.retry, sender.notification
        envelope = Envelope(
            sender.sender, request.mail_from, request.rcpt_to, tx.remote_host, tx.local_host, tx.smtp_meta
        )
        row = NewTransaction(
            id=resource.id,
            envelope=envelope,
            retry=sender.retry,
            notification=sender.notification,
            destination=request.rcpt_to[0].domain or "",
            leased=True,
            attempts=1,
        )
        await self._durable_body(resource, row, request)
        await self._store.keep([row])
        work = Work(resource.id, envelope, role, tx, sender.retry, sender.notification)
        self._dispatcher.start(Delivery(resource, role, tx, work))

    async def _durable_body(self, resource: Resource, row: NewTransaction, request: CreateRequest) -> None:
        form, sender = request.body, row.envelope.sender.name
        if isinstance(form, InlineBody):
            resource.body = row.body = self._inline(form)
            resource.blobs[BODY] = _settled(resource.body)
        elif isinstance(form, ReuseBody):
            ref = await self._reuse(form.uri, sender, body=True)
            row.body = ref
            resource.body = self._store.read_blob(ref)
            resource.blobs[BODY] = _settled(resource.body)
        elif isinstance(form, BuilderBody):
            spec = self._parse(form)
            sources = {name: await self._source(source, sender) for name, source in spec.sources.items()}
            row.spec, row.blobs = spec.document, sources
            self._use_spec(resource, spec.document, sources, durable=True)
        else:
            resource.blobs[BODY] = DurableWriter(resource, BODY, self._spool(), self._store)

    def _use_spec(
        self,
        resource: Resource,
        document: Mapping[str, object],
        sources: Mapping[str, Body | BlobRef | None],
        *,
        durable: bool,
    ) -> None:
        bodies: dict[str, Body] = {}
        for name, source in sources.items():
            if source is None:
                spool = self._spool()
                bodies[name] = spool
                resource.blobs[name] = (
                    DurableWriter(resource, name, spool, self._store) if durable else SpoolWriter(resource, name, spool)
                )
            else:
                bodies[name] = self._store.read_blob(source) if isinstance(source, BlobRef) else source
                resource.blobs[name] = _settled(bodies[name])
        resource.has_spec = True
        resource.body = SpecBody(document, bodies)

    async def _source(self, source: BlobSource, sender: str) -> Body | BlobRef | None:
        if source.inline is not None:
            return BytesBody(source.inline)
        return await self._reuse(source.reuse_uri, sender, body=False) if source.reuse_uri is not None else None

    def _parse(self, form: BuilderBody) -> BuilderSpec:
        spec = parse_spec(form.spec)
        check_size(spec, self.max_message_size)
        return spec

    def _inline(self, form: InlineBody) -> Body:
        if len(form.content) > self.max_message_size:
            raise TooLarge(f"the message is larger than {self.max_message_size} bytes")
        return BytesBody(form.content)

    async def _reuse(self, uri: str, sender: str, *, body: bool) -> BlobRef:
        """The sender's stored blob that a reuse URI names; only its path counts."""
        place = "body.reuse_uri" if body else "body.message_builder: reuse_uri"
        parts = _path(uri).split("/")
        is_body = len(parts) == 4 and parts[3] == BODY
        is_blob = len(parts) == 5 and parts[3] == "blob"
        if parts[:2] != ["", "transactions"] or not (is_body if body else is_blob):
            wanted = "/transactions/{id}/body" if body else "/transactions/{id}/blob/{blob}"
            raise BadRequest(f"{place}: must be {wanted}, got {uri!r}")
        found = await self._store.find_blob(parts[2], BODY if body else parts[4], sender)
        if found is None and body and await self._is_built(parts[2], sender):
            raise BadRequest(
                f"{place}: {uri!r} is built from its spec for each recipient anew: send the spec again, with its blobs, "
                "…/blob/{id}, as the reuse_uri of the parts"
            )
        if found is None:
            raise BadRequest(f"{place}: {uri!r} is unknown to this sender, or not complete yet")
        return found

    async def _is_built(self, tx_id: str, sender: str) -> bool:
        """Whether a transaction of the sender's own has a builder spec in the place of a body."""
        stored = await self._store.load(tx_id)
        return stored is not None and stored.spec is not None and stored.envelope.sender.name == sender

    def _spool(self) -> SpooledBody:
        return SpooledBody(self._config.spool_directory)

    # --- find and wait ---------------------------------------------------------------------------------------------------

    async def find(self, tx_id: str) -> Resource:
        delivery = self._dispatcher.deliveries.get(tx_id)
        if delivery is not None:
            return delivery.resource
        return self._view(await self._stored(tx_id))

    async def _stored(self, tx_id: str) -> StoredTransaction:
        """The row of a transaction that is not in memory here. Raises Moved when another replica holds it."""
        stored = await self._store.load(tx_id)
        if stored is None:
            session, _, _ = tx_id.partition("-")
            owner = _hexadecimal(session)
            uri = None if owner in (None, self._store.session_id) else await self._store.session_uri(owner or 0)
            if uri is not None and uri.rstrip("/") != self.session_uri:
                raise Moved(uri)
            raise NotFound("unknown tx")
        if stored.lease_uri is not None and not stored.leased_here:
            raise Moved(stored.lease_uri)
        return stored

    def _view(self, stored: StoredTransaction) -> Resource:
        envelope, responses = stored.envelope, stored.responses
        if stored.held is not None:
            # Its newest attempts ended with their processes and left no answers: why there will be none stands in their place.
            responses = Responses(mail=Response(451, f"4.3.5 {stored.held}"))
        role = self._dispatcher.roles.find(envelope.sender.name, envelope.sender.tag)
        interactive = role is not None and role.chain.sink.interactive
        blobs: dict[str, BlobView] = dict(stored.blobs)
        if interactive and not blobs:
            # History keeps no bytes, but its client has seen the body, and whether it was complete.
            blobs[BODY] = BlobState(0, None if responses.data is None else 0)
        return Resource(
            id=stored.id,
            incremental=interactive,
            remote_host=envelope.remote_host,
            local_host=envelope.local_host,
            mail_from=envelope.mail_from,
            rcpt_to=list(envelope.rcpt_to),
            mail_response=responses.mail,
            rcpt_response=list(responses.rcpt),
            data_response=responses.data,
            blobs=blobs,
            has_spec=stored.spec is not None,
            retry=stored.retry,
            notification=stored.notification,
            attempt_count=stored.attempts,
            final_reason=stored.final_reason,
            cancelled=stored.cancelled,
            ended=True,
            version=stored.version,
        )

    async def wait_change(self, resource: Resource, timeout: float) -> Resource:
        known, deadline = resource.version, clock.now() + timeout
        while resource.version == known and (left := deadline - clock.now()) > 0:
            if resource.id in self._dispatcher.deliveries:
                await resource.wait_version(known, left)
            else:
                # No process tells us what it does to a row: look at it now and then, not in step with others.
                await asyncio.sleep(min(left, _POLL_STORED * (0.75 + random.random() / 2)))
            resource = await self.find(resource.id)
        return resource

    # --- change --------------------------------------------------------------------------------------------------------

    async def update(self, resource: Resource, request: UpdateRequest) -> None:
        resource.accept(request)

    async def open_blob(self, tx_id: str, blob: str) -> tuple[Resource, BlobWriter]:
        delivery = self._dispatcher.deliveries.get(tx_id)
        if delivery is not None:
            return delivery.resource, self._writer(delivery.resource, blob)
        stored = await self._stored(tx_id)
        resource = self._view(stored)
        _named(resource, blob)
        if stored.final_reason is not None:
            if stored.cancelled or blob not in stored.blobs:
                raise Conflict("the transaction has ended")
            if stored.blobs[blob].complete:
                return resource, FinishedBlob(stored.blobs[blob])
            # Its own recipient has an answer, but what its client uploads here may be for others too, who reuse it.
        return resource, StoreWriter(self._store, tx_id, blob, stored.blobs[blob])

    def _writer(self, resource: Resource, blob: str) -> BlobWriter:
        """The receiving end of an upload into a transaction that this process attempts, or has just attempted."""
        writer = _named(resource, blob)
        if isinstance(writer, SpoolWriter):
            if not isinstance(writer, DurableWriter):
                resource.expect_client()
            if not resource.cancelled:
                return writer
        elif resource.ended and isinstance(writer, BlobSize) and is_complete(writer):
            return FinishedBlob(writer)
        elif isinstance(writer, BlobState):  # of a queued transaction: complete, but a client may not know
            return StoreWriter(self._store, resource.id, blob, writer)
        if resource.cancelled:
            raise Conflict("the transaction has been cancelled")
        if resource.ended:
            raise Conflict("the transaction has ended")
        raise Conflict(f"blob {blob!r} came with the create request")

    async def cancel(self, tx_id: str) -> bool:
        delivery = self._dispatcher.deliveries.get(tx_id)
        if delivery is not None:
            self._dispatcher.cancel(delivery)
            if delivery.work is None:
                return True
        # Whoever holds it may change while we look, and then we look again: what is answered 200 holds. Where there is a row it
        # is written there first, so that it holds after the end of this process as well.
        try:
            while (stored := await self._stored(tx_id)).final_reason is None:
                if stored.leased_here and await self._store.cancel_leased(tx_id):
                    self._dispatcher.revoke(tx_id)
                    break
                if await self._store.cancel(tx_id):
                    break
        except NotFound:
            return delivery is not None
        return True


def _path(uri: str) -> str:
    try:
        return urlsplit(uri).path
    except ValueError:
        return ""


def _settled(body: Body) -> BlobSize:
    """A blob that came complete with the create request."""
    return BlobSize(body.length or 0, body.length or 0)


def _named(resource: Resource, blob: str) -> object:
    if blob not in resource.blobs:
        if blob == BODY and resource.has_spec:
            raise Conflict("this transaction's body is built from its message_builder spec: upload its blobs")
        raise NotFound(f"the transaction has no blob {blob!r}")
    return resource.blobs[blob]


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None
