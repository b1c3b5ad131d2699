"""authentication_results: says in the message what the chain has found out about its origin (RFC 8601)."""

from __future__ import annotations

from collections.abc import Iterator

from koukan.blob.bodies import BytesBody, ConcatBody, TailBody
from koukan.chain.filter import Context, Filter
from koukan.chain.outputs import (
    DkimCheckOutput,
    DkimResult,
    DkimStatus,
    HostStatus,
    RemoteHostOutput,
    SpfCheckOutput,
)
from koukan.chain.transaction import Transaction
from koukan.config.filters import AuthenticationResults
from koukan.errors import ConfigError
from koukan.message.address import ascii_domain
from koukan.message.authentication import MAX_VALUE, MethodResult, render, without_forged
from koukan.message.headers import read_head
from koukan.model import Body

_DKIM = {
    DkimStatus.PASS: "pass",
    DkimStatus.FAIL: "fail",
    DkimStatus.TEMP_ERR: "temperror",
    DkimStatus.UNKNOWN_ALGO: "neutral",
}
_HOST = {HostStatus.NOT_FOUND: "permerror", HostStatus.DNS_TEMP: "temperror"}


class AuthenticationResultsFilter(Filter):
    """Fields that others wrote in our name go, ours comes on top. The message follows by reference."""

    reads_message = True

    def __init__(self, authserv_id: str) -> None:
        self._authserv_id = authserv_id

    async def on_body(self, tx: Transaction, body: Body) -> Body:
        own = render(self._authserv_id, _results(tx), smtputf8=tx.smtputf8)
        block, _ = await read_head(body.chunks())
        cleaned = without_forged(block, self._authserv_id)
        if cleaned is None:
            return ConcatBody.prepend(own, body)
        return ConcatBody([BytesBody(own + cleaned), TailBody(body, len(block))])


def build(options: AuthenticationResults, context: Context) -> AuthenticationResultsFilter:
    """Raises ConfigError for an authserv-id that cannot stand in a header."""
    own = options.authserv_id
    printable = own.isprintable() and " " not in own
    if not own or not printable or len(own) > MAX_VALUE or ascii_domain(own.lower()) is None:
        raise ConfigError(f"authentication_results: authserv_id {own!r} is no name; use the host name of this service")
    return AuthenticationResultsFilter(own)


def _results(tx: Transaction) -> Iterator[MethodResult]:
    host = tx.output(RemoteHostOutput)
    if host is not None and tx.remote_host is not None:
        yield _iprev(host, tx.remote_host.host)
    if tx.smtp_meta is not None and tx.smtp_meta.auth:
        yield MethodResult("auth", "pass")
    spf = tx.output(SpfCheckOutput)
    if spf is not None:
        yield _spf(tx, spf)
    dkim = tx.output(DkimCheckOutput)
    if dkim is not None:
        if not dkim.results:
            yield MethodResult("dkim", "none")
        for result in dkim.results:
            yield _dkim(result)


def _iprev(host: RemoteHostOutput, address: str) -> MethodResult:
    """Whether the client's name leads back to its address (§2.7.3)."""
    result = _HOST.get(host.status) or ("pass" if host.fcrdns else "fail")
    return MethodResult("iprev", result, [("policy.iprev", address)])


def _spf(tx: Transaction, spf: SpfCheckOutput) -> MethodResult:
    null_sender = tx.mail_from is None or not tx.mail_from.address
    name = "smtp.helo" if null_sender else "smtp.mailfrom"
    return MethodResult("spf", spf.mail_from_result.name.lower(), [(name, spf.domain)] if spf.domain else [])


def _dkim(result: DkimResult) -> MethodResult:
    shown = [("header.d", result.domain), ("header.s", result.tags.get("s")), ("header.a", result.tags.get("a"))]
    properties = [(name, value) for name, value in shown if value]
    return MethodResult("dkim", _DKIM[result.status], properties, result.reason)
