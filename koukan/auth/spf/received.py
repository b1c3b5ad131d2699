"""The Received-SPF header field: a verdict and what it rests on, for those who read the message later (RFC 7208 §9.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from koukan.auth.spf.evaluator import Verdict
from koukan.auth.spf.record import Result
from koukan.message import lexical
from koukan.message.rendering import render_words
from koukan.net.dns import IpAddress

#: characters of one value: as long as a path may be (RFC 5321 §4.5.3.1.3), and a line with one stays below its limit
MAX_VALUE = 256

_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# What clients and other people's DNS say must neither end the line nor the comment.
_NOT_IN_VALUE = re.compile(r"[^ -~]")
_NOT_IN_COMMENT = re.compile(r"[^ -~]|[()\\]")

_COMMENTS = {
    Result.NONE: "{domain} has no SPF record",
    Result.NEUTRAL: "{client} is neither permitted nor denied by {domain}",
    Result.PASS: "domain of {domain} designates {client} as permitted sender",
    Result.FAIL: "domain of {domain} does not designate {client} as permitted sender",
    Result.SOFTFAIL: "transitioning domain of {domain} does not designate {client} as permitted sender",
    Result.TEMPERROR: "error in processing {domain}, try again later",
    Result.PERMERROR: "error in the SPF record of {domain}",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was checked: the client and an identity, `mailfrom` or `helo`, with its domain."""

    client: IpAddress
    identity: str
    domain: str
    mail_from: str
    helo: str | None = None
    receiver: str | None = None


def render_received_spf(verdict: Verdict, checked: Checked) -> bytes:
    """The field with its line end, whatever is in the values."""
    pairs = [f"{key}={_value(value)}" for key, value in _pairs(verdict, checked)]
    words = [verdict.result.value, *_comment(verdict, checked).split(), *(f"{pair};" for pair in pairs[:-1]), pairs[-1]]
    return render_words("Received-SPF", words)


def _comment(verdict: Verdict, checked: Checked) -> str:
    text = _COMMENTS[verdict.result].format(domain=checked.domain[:MAX_VALUE], client=checked.client)
    if checked.receiver is not None:
        text = f"{checked.receiver[:MAX_VALUE]}: {text}"
    return f"({_NOT_IN_COMMENT.sub('?', text)})"


def _pairs(verdict: Verdict, checked: Checked) -> Iterator[tuple[str, str]]:
    if checked.receiver is not None:
        yield "receiver", checked.receiver
    yield "client-ip", str(checked.client)
    yield "envelope-from", checked.mail_from
    if checked.helo:
        yield "helo", checked.helo
    yield "identity", checked.identity
    if verdict.mechanism is not None:
        yield "mechanism", verdict.mechanism
    if verdict.problem is not None:
        yield "problem", verdict.problem


def _value(text: str) -> str:
    text = _NOT_IN_VALUE.sub("?", text[:MAX_VALUE])
    return text if _DOT_ATOM.fullmatch(text) else lexical.quote(text)
