"""spf_check: may this client send for the envelope sender's domain (RFC 7208), and for the domains of extra interest?

Says so in its output, for policies, and in a Received-SPF field on top of the message. It rejects nothing itself.
"""

from __future__ import annotations

import asyncio

from koukan.auth.spf import Result, Verdict, check_host
from koukan.auth.spf.received import Checked, render_received_spf
from koukan.blob.bodies import ConcatBody
from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import SpfCheckOutput, SpfStatus
from koukan.chain.transaction import Transaction
from koukan.config.filters import SpfCheck
from koukan.model import Body, Mailbox
from koukan.net.dns import IpAddress

_NOT_CHECKED = Verdict(Result.NONE)


class SpfCheckFilter(Filter):
    """Checks when the reverse-path arrives. Without a client address, as from REST clients, every result is none."""

    needs_complete_body = False
    reads_message = True

    def __init__(self, options: SpfCheck, context: Context) -> None:
        self._extra_domains = tuple(dict.fromkeys(options.extra_domains))
        self._receiver = options.received_hostname
        self._context = context

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> None:
        client = tx.client_address
        helo = tx.smtp_meta.ehlo_host if tx.smtp_meta is not None else None
        domain = _domain(mail_from.address) if mail_from.address else helo
        sender = mail_from.address or f"postmaster@{helo}"
        identities = [(domain, sender), *((extra, f"postmaster@{extra}") for extra in self._extra_domains)]
        verdict, *extra = await asyncio.gather(*(self._check(client, *identity, helo) for identity in identities))
        tx.add_output(
            SpfCheckOutput(
                _status(verdict),
                {name: _status(result) for name, result in zip(self._extra_domains, extra, strict=True)},
                domain=domain,
                explanation=verdict.explanation,
            )
        )
        if client is not None and domain is not None:
            identity = "mailfrom" if mail_from.address else "helo"
            tx.notes[self] = verdict, Checked(client, identity, domain, mail_from.address, helo, self._receiver)

    async def on_body(self, tx: Transaction, body: Body) -> Body | None:
        note = tx.notes.get(self)
        return None if note is None else ConcatBody.prepend(render_received_spf(*note), body)

    async def _check(self, client: IpAddress | None, domain: str | None, sender: str, helo: str | None) -> Verdict:
        if client is None or not domain:
            return _NOT_CHECKED
        return await check_host(
            self._context.dns,
            client,
            domain,
            sender,
            helo=helo,
            receiver=self._receiver,
            timestamp=int(self._context.now().timestamp()),
        )


def build(options: SpfCheck, context: Context) -> SpfCheckFilter:
    return SpfCheckFilter(options, context)


def _domain(address: str) -> str | None:
    """What stands behind the last `@`, even where nothing stands before it: that is postmaster's (RFC 7208 §4.3)."""
    _, _, domain = address.lower().rpartition("@") if "@" in address else ("", "", "")
    return domain or None


def _status(verdict: Verdict) -> SpfStatus:
    return SpfStatus[verdict.result.name]
