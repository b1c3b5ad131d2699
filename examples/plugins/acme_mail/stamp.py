"""A filter: stamps every message with the department that sends it."""

from collections.abc import Mapping
from typing import Any

from koukan.blob.bodies import ConcatBody
from koukan.chain.filter import Context, Filter
from koukan.chain.transaction import Transaction
from koukan.errors import ConfigError
from koukan.model import Body, Mailbox, Response


class Stamp(Filter):
    """Knows what the configuration says; what belongs to one transaction is in `tx`."""

    #: the header goes in front of whatever comes: no need to wait for all of it
    needs_complete_body = False

    def __init__(self, department: str, closed: frozenset[str]) -> None:
        self._header = f"X-Acme-Department: {department}\r\n".encode()
        self._closed = closed

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        if mail_from.domain in self._closed:
            return Response(550, "5.7.1 this department is closed")
        return None

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        return ConcatBody.prepend(self._header, body)


def factory(options: Mapping[str, Any], context: Context) -> Filter | None:
    """Called once for every place in a chain; None leaves the filter out."""
    department = options.get("department")
    if department is None:
        return None
    if not isinstance(department, str) or not department.isalnum():
        raise ConfigError(f"department: must be one word, got {department!r}")
    return Stamp(department, frozenset(options.get("closed", ())))
