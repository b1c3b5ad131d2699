"""The values that JSON documents of the REST API are made of (rest-api.md §2), and how documents are taken apart.

Every parser takes the path of its field first, so that errors name it. All raise InvalidDocument.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from koukan.errors import InvalidDocument
from koukan.model.envelope import EsmtpParam, HostPort, Mailbox, SmtpMeta
from koukan.model.response import Response

#: bytes of an address: twice what a path may have (RFC 5321 §4.5.3.1.3), for addresses in UTF-8
MAX_PATH = 512

# What may stand between the angle brackets of MAIL and RCPT without ending them, or beginning a parameter.
_PATH = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^<>"\s])*+')
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Json = Mapping[str, object]
T = TypeVar("T")


def parse_mailbox(field: str, value: object) -> Mailbox:
    doc = as_object(field, value)
    allow_only(field, doc, ("m", "e"))
    address = required(field, doc, "m", as_path)
    params = (
        tuple(_param(f"{field}.e[{i}]", p) for i, p in enumerate(as_list(f"{field}.e", doc["e"]))) if "e" in doc else ()
    )
    return Mailbox(address, params)


def as_path(field: str, value: object) -> str:
    """An address as it stands in a command of SMTP; empty: the null reverse-path. Whatever it is, it ends there."""
    address = as_string(field, value)
    if _CONTROL.search(address):
        raise InvalidDocument(field, "must not contain control characters")
    if len(address.encode("utf-8", "replace")) > MAX_PATH:
        raise InvalidDocument(field, f"longer than {MAX_PATH} bytes")
    if not _PATH.fullmatch(address):
        raise InvalidDocument(
            field,
            f"{address[:100]!r} is no bare address: it goes without display name, angle brackets and spaces; ESMTP parameters "
            'have a list of their own, "e"',
        )
    return address


def dump_mailbox(mailbox: Mailbox) -> Json:
    if not mailbox.params:
        return {"m": mailbox.address}
    return {
        "m": mailbox.address,
        "e": [{"k": p.keyword} if p.value is None else {"k": p.keyword, "p": p.value} for p in mailbox.params],
    }


def parse_response(field: str, value: object) -> Response:
    doc = as_object(field, value)
    code = required(field, doc, "code", as_integer)
    if not 100 <= code <= 999:
        raise InvalidDocument(f"{field}.code", f"{code} is no three-digit reply code")
    return Response.of(code, optional(doc, "message", as_string, field))


def dump_response(response: Response) -> Json:
    return {"code": response.code, "message": response.message}


def parse_host_port(field: str, value: object) -> HostPort:
    pair = as_list(field, value)
    if len(pair) != 2:
        raise InvalidDocument(field, 'must be ["host", port]')
    host, port = as_string(f"{field}[0]", pair[0]), as_integer(f"{field}[1]", pair[1])
    if not host or not is_one_line(host):
        raise InvalidDocument(f"{field}[0]", "must be a host name or an IP address")
    if not 0 <= port <= 65535:
        raise InvalidDocument(f"{field}[1]", f"{port} is no TCP port")
    return HostPort(host, port)


def dump_host_port(address: HostPort) -> list[object]:
    return [address.host, address.port]


def parse_smtp_meta(field: str, value: object) -> SmtpMeta:
    doc = as_object(field, value)
    ehlo_host = optional(doc, "ehlo_host", as_string, field)
    if ehlo_host is not None and not is_one_line(ehlo_host):
        raise InvalidDocument(f"{field}.ehlo_host", "must not contain control characters")
    auth = doc.get("auth")
    if auth is not None and not isinstance(auth, bool):
        raise InvalidDocument(f"{field}.auth", "must be true, false or null")
    extra = {k: v for k, v in doc.items() if k not in ("ehlo_host", "esmtp", "tls", "auth")}
    return SmtpMeta(
        ehlo_host=ehlo_host,
        esmtp=optional(doc, "esmtp", as_boolean, field) or False,
        tls=optional(doc, "tls", as_boolean, field) or False,
        auth=auth,
        extra=extra or None,
    )


def dump_smtp_meta(meta: SmtpMeta) -> Json:
    return {
        "ehlo_host": meta.ehlo_host,
        "esmtp": meta.esmtp,
        "tls": meta.tls,
        "auth": meta.auth,
        **(meta.extra or {}),
    }


# --- how a document is taken apart ------------------------------------------------------------------------------------------


def legal_object(document: object, legal: frozenset[str]) -> Json:
    doc = as_object("", document)
    for name, value in doc.items():
        if name not in legal:
            allowed = ", ".join(sorted(legal))
            raise InvalidDocument(name, f"not a field of this request; allowed are {allowed}")
        if value is None:
            raise InvalidDocument(name, "must not be null; leave the field out")
        if value == []:
            raise InvalidDocument(name, "must not be an empty list; leave the field out")
    return doc


def optional(doc: Json, name: str, parse: Callable[[str, object], T], inside: str = "") -> T | None:
    value = doc.get(name)
    return None if value is None else parse(f"{inside}.{name}" if inside else name, value)


def required(field: str, doc: Json, name: str, parse: Callable[[str, object], T]) -> T:
    if name not in doc:
        raise InvalidDocument(f"{field}.{name}", "is required")
    return parse(f"{field}.{name}", doc[name])


def as_object(field: str, value: object) -> Json:
    if not isinstance(value, dict):
        raise InvalidDocument(field, "must be a JSON object")
    return cast("Json", value)


def as_list(field: str, value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise InvalidDocument(field, "must be a list")
    return cast("Sequence[object]", value)


def as_string(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidDocument(field, "must be a string")
    return value


def as_boolean(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidDocument(field, "must be true or false")
    return value


def as_integer(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDocument(field, "must be an integer")
    return value


def as_count(field: str, value: object) -> int:
    number = as_integer(field, value)
    if number < 0:
        raise InvalidDocument(field, "must not be negative")
    return number


def allow_only(field: str, doc: Json, names: Iterable[str]) -> None:
    for name in doc:
        if name not in names:
            path = f"{field}.{name}" if field else name
            raise InvalidDocument(path, f"unknown{did_you_mean(name, names)}; allowed are {', '.join(names)}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`, did you mean …?` when one of `names` is close to `name`, or contains it, else nothing."""
    known = list(names)
    plain = name.lower().replace("-", "_")
    close = difflib.get_close_matches(plain, known, 1, 0.75) or [k for k in known if plain and plain in k.split("_")]
    return f", did you mean {close[0]!r}?" if close else ""


def is_one_line(text: str) -> bool:
    return _CONTROL.search(text) is None


def _param(field: str, value: object) -> EsmtpParam:
    doc = as_object(field, value)
    allow_only(field, doc, ("k", "p"))
    keyword = required(field, doc, "k", as_string)
    param = EsmtpParam(keyword, optional(doc, "p", as_string, field))
    if not keyword or not is_one_line(str(param)) or " " in str(param):
        raise InvalidDocument(field, "must be one ESMTP parameter without spaces or control characters")
    return param
