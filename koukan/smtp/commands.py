"""The arguments of MAIL and RCPT (RFC 5321 §4.1.2), parsed into mailboxes; errors are the replies they deserve."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from koukan.model import EsmtpParam, Mailbox, Response

#: bytes of a path (RFC 5321 §4.5.3.1.3), doubled for addresses in UTF-8
PATH_LIMIT = 512

_PATH = re.compile(r'\s*<((?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>(?:\s+(.*))?', re.DOTALL)
_SOURCE_ROUTE = re.compile(r"@[^:]*:")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")

#: per keyword: whether its value (None without one) is legal
Rules = Mapping[str, Callable[[str | None], bool]]

MAIL_PARAMS: Rules = {
    "SIZE": lambda value: value is not None and value.isascii() and value.isdigit() and len(value) <= 20,
    "BODY": lambda value: value is not None and value.upper() in ("7BIT", "8BITMIME"),
    "SMTPUTF8": lambda value: value is None,
}
RCPT_PARAMS: Rules = {}


def parse_path(argument: str | None, keyword: str, rules: Rules, *, esmtp: bool) -> Mailbox | Response:
    """The mailbox of `FROM:<…> params` or `TO:<…> params`; a Response says what is wrong with it."""
    syntax = Response(501, f"5.5.4 Syntax: {keyword}<address>{' [parameters]' if esmtp else ''}")
    if argument is None or argument[: len(keyword)].upper() != keyword:
        return syntax
    found = _PATH.fullmatch(argument[len(keyword) :])
    if found is None:
        return syntax
    address, rest = found[1], found[2] or ""
    if len(address) > PATH_LIMIT:
        return Response(501, "5.1.3 the address is too long")
    if rest and not esmtp:
        return Response(501, "5.5.4 parameters need EHLO")
    params = _params(rest, rules)
    if isinstance(params, Response):
        return params
    mailbox = Mailbox(_SOURCE_ROUTE.sub("", address, count=1) if address.startswith("@") else address, params)
    if not address.isascii() and "SMTPUTF8" in rules and mailbox.param("SMTPUTF8") is None:
        return Response(553, "5.6.7 the address needs SMTPUTF8")
    return mailbox


def _params(text: str, rules: Rules) -> tuple[EsmtpParam, ...] | Response:
    params: list[EsmtpParam] = []
    for item in text.split():
        keyword, equals, value = item.partition("=")
        if not _KEYWORD.fullmatch(keyword) or (equals and not value):
            return Response(501, f"5.5.4 bad parameter {item}")
        param = EsmtpParam(keyword.upper(), value if equals else None)
        legal = rules.get(param.keyword)
        if legal is None:
            return Response(555, f"5.5.4 parameter {param.keyword} is not supported")
        if not legal(param.value) or any(p.keyword == param.keyword for p in params):
            return Response(501, f"5.5.4 bad parameter {item}")
        params.append(param)
    return tuple(params)
