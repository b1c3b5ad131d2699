"""What the REST server refuses: raised anywhere behind the handlers, turned into an HTTP answer in one place."""

from __future__ import annotations

from collections.abc import Mapping

from koukan.errors import KoukanError


class Refusal(KoukanError):
    """A request that cannot be served; `status` is the HTTP status, the text says why."""

    status = 400

    def __init__(self, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.headers = dict(headers or {})


class BadRequest(Refusal):
    """The request breaks the wire rules."""


class NotFound(Refusal):
    """No such sender, transaction or blob."""

    status = 404


class Conflict(Refusal):
    """The transaction has ended, or the upload is of another kind."""

    status = 409


class PreconditionFailed(Refusal):
    """`if-match` names another version than the current one (RFC 9110 §13.1.1)."""

    status = 412


class TooLarge(Refusal):
    """Over the largest message."""

    status = 413


class RangeRefused(Refusal):
    """The chunk does not fit what is stored; `content-range` tells what is."""

    status = 416


class Unavailable(Refusal):
    """Not now: overloaded, draining, no database. Try again after a moment."""

    status = 503

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason, {"retry-after": str(retry_after)})


class StorageFull(Refusal):
    """No room for the body (RFC 4918 §11.5)."""

    status = 507


class Moved(Refusal):
    """Another replica holds the transaction; `base` is its session_uri."""

    status = 308

    def __init__(self, base: str) -> None:
        super().__init__("the transaction is on another replica")
        self.base = base.rstrip("/")
