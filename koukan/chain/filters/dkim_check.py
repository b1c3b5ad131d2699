"""dkim_check: verifies DKIM signatures (koukan.auth.dkim) and says how the signing domains align with From."""

from __future__ import annotations

import logging

from koukan.auth.alignment import Alignment, align
from koukan.auth.dkim.verify import MAX_SIGNATURES, Status, Verdict, verify
from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import DkimAlignment, DkimCheckOutput, DkimResult, DkimStatus, MessageValidationOutput
from koukan.chain.transaction import Transaction
from koukan.config.filters import DkimCheck
from koukan.errors import Overloaded
from koukan.logs import event
from koukan.message.address import Address
from koukan.message.headers import Headers, header_from
from koukan.model import Body, Response

logger = logging.getLogger("koukan.dkim")

_OVERLOADED = Response(451, "4.3.2 too busy to verify signatures, try again later")
_STATUS = {
    Status.PASS: DkimStatus.PASS,
    Status.FAIL: DkimStatus.FAIL,
    Status.TEMPORARY: DkimStatus.TEMP_ERR,
    Status.UNKNOWN_ALGORITHM: DkimStatus.UNKNOWN_ALGO,
}
_ALIGNMENT = {
    Alignment.SAME: DkimAlignment.DOMAIN,
    Alignment.ORGANIZATION: DkimAlignment.SAME_SLD,
    Alignment.OTHER: DkimAlignment.OTHER,
}
#: tags that have a place of their own in the result, or none
_NOT_SHOWN = frozenset({"h", "d", "b", "bh"})
#: characters of the tags of one signature that are passed on to receivers and logs
_MAX_TAGS = 4096


class DkimCheckFilter(Filter):
    """Rejects nothing: a bad signature is worth as much as none (RFC 6376 §6.1), and policies know both."""

    reads_message = True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def on_body(self, tx: Transaction, body: Body) -> Response | None:
        try:
            verification = await verify(body, self._context.dns, self._context.now().timestamp())
        except Overloaded:
            return _OVERLOADED
        author = _author(tx, verification.headers)
        tx.add_output(DkimCheckOutput(tuple(_result(verdict, author) for verdict in verification.verdicts)))
        if verification.ignored:
            event(
                logger,
                logging.WARNING,
                f"only the first {MAX_SIGNATURES} signatures were verified",
                transaction=tx.id,
                ignored=verification.ignored,
            )
        return None


def build(options: DkimCheck, context: Context) -> DkimCheckFilter:
    return DkimCheckFilter(context)


def _author(tx: Transaction, headers: Headers) -> Address | None:
    """The one mailbox of From, None when there is none or several."""
    validation = tx.output(MessageValidationOutput)
    if validation is not None:
        return validation.from_address
    authors = header_from(headers)
    return authors[0] if len(authors) == 1 else None


def _result(verdict: Verdict, author: Address | None) -> DkimResult:
    signature = verdict.signature
    domain = signature.domain if signature is not None else verdict.tags.get("d", "").lower() or None
    shown = {name: text for name, text in verdict.tags.items() if name not in _NOT_SHOWN}
    if signature is not None:
        shown.pop("t", None)
        shown.pop("x", None)
    if sum(map(len, shown.values())) > _MAX_TAGS:
        shown = {name: text for name, text in shown.items() if len(text) <= _MAX_TAGS // len(shown)}
    return DkimResult(
        _STATUS[verdict.status],
        domain=domain,
        alignment=_ALIGNMENT[align(domain, author.domain)] if domain and author else None,
        headers=signature.headers if signature is not None else (),
        timestamp=signature.timestamp if signature is not None else None,
        expiration=signature.expiration if signature is not None else None,
        tags=shown,
        reason=verdict.reason,
    )
