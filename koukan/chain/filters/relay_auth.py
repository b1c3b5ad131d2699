"""relay_auth: fails a transaction that has neither SMTP AUTH nor an allow-listed client address."""

from __future__ import annotations

from koukan.chain.filter import Context, Filter
from koukan.chain.matchers.simple import in_networks
from koukan.chain.transaction import Transaction
from koukan.config import filters
from koukan.model import Mailbox, Response

#: RFC 4954 §6: the client may authenticate and try again
_AUTHENTICATE = Response(530, "5.7.0 authentication required (relay_auth)")
_DENIED = Response(550, "5.7.1 relaying denied: this client address is not in the allowlist (relay_auth)")


class RelayAuth(Filter):
    """The filter as configured. A client about which nothing is known is none that may relay."""

    def __init__(self, options: filters.RelayAuth) -> None:
        self._smtp_auth = options.smtp_auth
        self._networks = tuple(options.allowlist)

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        if self._smtp_auth and tx.smtp_meta is not None and tx.smtp_meta.auth:
            return None
        if in_networks(tx, self._networks):
            return None
        return _AUTHENTICATE if self._smtp_auth else _DENIED


def build(options: filters.RelayAuth, context: Context) -> Filter:
    """The filter as configured."""
    return RelayAuth(options)
