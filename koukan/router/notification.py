"""Bounces: the transaction that tells a sender what could not be delivered (RFC 3461 §6, RFC 3464)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from koukan.blob.bodies import BytesBody
from koukan.chain.transaction import Transaction
from koukan.config.router import GlobalConfig
from koukan.message.dsn import FailedRecipient, make_bounce
from koukan.model import Body, EsmtpParam, Mailbox, Response, Sender
from koukan.rest.resource import Resource
from koukan.router.roles import Role
from koukan.storage.store import Envelope, NewTransaction

logger = logging.getLogger("koukan.router")

#: seconds that the end of a refused transaction waits for its upload to begin, so that the bounce can quote its header: clients
#: upload as soon as they know where to, and hear the refusal without waiting
ORIGINAL_WAIT = 10.0

#: what NOTIFY may ask for in place of failures
_OTHER_OCCASIONS = frozenset({"NEVER", "SUCCESS", "DELAY"})


class Notifier:
    """Makes bounces as transactions of the sender that a chain's `notification` names."""

    def __init__(self, config: GlobalConfig, new_id: Callable[[], str]) -> None:
        self._mailer_daemon = config.mailer_daemon_mailbox or f"mailer-daemon@{socket.getfqdn()}"
        self._new_id = new_id

    async def bounce(
        self,
        role: Role,
        envelope: Envelope,
        failure: Response,
        body: Body | None,
        tx: Transaction,
        age: float,
    ) -> NewTransaction | None:
        """The bounce for a failed recipient; None when nobody is to be told. It is itself retried, and never bounces."""
        target = role.chain.config.output_handler.notification
        sender = envelope.mail_from
        if sender is None or not sender.address:
            return None
        if target is None:
            logger.warning("%s: failed for good and chain %s has no notification", tx.id, role.chain.name)
            return None
        now = datetime.now(UTC)
        failed = [FailedRecipient(mailbox, failure, tx.next_hop) for mailbox in envelope.rcpt_to]
        content = await make_bounce(
            sender=sender,
            failed=failed,
            original=body,
            mailer_daemon=self._mailer_daemon,
            arrived=now - timedelta(seconds=age),
            now=now,
        )
        return NewTransaction(
            id=self._new_id(),
            envelope=Envelope(
                sender=Sender(target.sender, target.tag),
                mail_from=Mailbox("", _needs(content, sender)),
                rcpt_to=(Mailbox(sender.address),),
            ),
            body=BytesBody(content),
            retry=True,
            destination=sender.domain or "",
        )


def wants_failures(recipient: Mailbox) -> bool:
    """Whether its sender is to hear that a recipient failed: unless NOTIFY names other occasions only (RFC 3461 §4.1)."""
    notify = recipient.param("NOTIFY")
    if notify is None or not notify.value:
        return True
    return not _OTHER_OCCASIONS.issuperset(occasion.strip().upper() for occasion in notify.value.split(","))


async def original_begun(resource: Resource) -> None:
    """Wait, within bounds, for the original of a bounce: its recipient may be refused before a byte of it has come."""
    begun = partial(_begun_or_off, resource)
    if not await resource.wait(begun, ORIGINAL_WAIT):
        logger.info("%s: nothing of the message has come; the bounce goes without its header", resource.id)


def _begun_or_off(resource: Resource) -> bool:
    return resource.body is not None or resource.called_off or resource.timed_out


def _needs(content: bytes, sender: Mailbox) -> tuple[EsmtpParam, ...]:
    """What a bounce needs of every hop: octets beyond ASCII in it (RFC 6152), or in its header and envelope (RFC 6531)."""
    if content.isascii():
        return ()
    eight_bit = EsmtpParam("BODY", "8BITMIME")
    return (eight_bit,) if sender.address.isascii() else (eight_bit, EsmtpParam("SMTPUTF8"))
