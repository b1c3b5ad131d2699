"""The one exception tree of Koukan.

    KoukanError
    ├── ConfigError             a file that cannot be used: what, where, what would be right
    ├── StartupError            the program cannot start for a reason outside its config (port in use, no database)
    ├── InvalidDocument         JSON on the wire that breaks the rules of rest-api.md: which field, why
    ├── InvalidMessage          a message or builder spec that cannot be rendered or parsed
    ├── InvalidRecord           a record in DNS that breaks the rules of its kind
    ├── BodyAborted             the peer went away before its body was complete: nothing partial may be finished
    ├── StoreError              the database could not do it now (temporary)
    │   └── StaleAttempt        another owner holds the lease: drop what we have
    ├── UpstreamError           the next hop could not be asked (temporary)
    └── Overloaded              more work is waiting than the bound allows (temporary)

Answers of mail servers are not exceptions: they are `koukan.model.Response` values.
"""

from __future__ import annotations


class KoukanError(Exception):
    """Base of every error that Koukan raises on purpose."""


class ConfigError(KoukanError):
    """A configuration that must not start. `str()` is one line: file, line, what is wrong, what is allowed.

    What is found after the file was read knows the `path` of the value inside it, and who knows the file adds the rest.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class StartupError(KoukanError):
    """The surroundings do not allow a start: one line that says what to do."""


class InvalidDocument(KoukanError):
    """A JSON document breaks the wire rules.

    `field` is the path inside the document (`rcpt_to[0].m`), `reason` what is wrong with it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class InvalidMessage(KoukanError):
    """A message, or a builder spec, that no retry would make renderable."""


class InvalidRecord(KoukanError):
    """A record in DNS that breaks the rules of its kind: `str()` is what is wrong, printable."""


class BodyAborted(KoukanError):
    """The sender of a body went away before it was complete."""


class StoreError(KoukanError):
    """The database could not do it now; the caller answers with a temporary failure."""


class StaleAttempt(StoreError):
    """A guarded write was refused: another session or attempt owns the transaction now."""


class UpstreamError(KoukanError):
    """The next hop could not be asked; the caller answers with a temporary failure."""


class Overloaded(KoukanError):
    """More work is waiting than the bound allows; the caller answers with a temporary failure."""
