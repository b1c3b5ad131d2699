"""What a mail server answers: a three-digit code and text (RFC 5321 §4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED_CODE = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")
_DEFAULT_MESSAGE = {2: "ok", 4: "temporary error", 5: "permanent error"}


@dataclass(frozen=True, slots=True)
class Response:
    """One SMTP reply. `message` may hold several lines, separated by `\\n`."""

    code: int
    message: str

    @classmethod
    def of(cls, code: int, message: str | None = None) -> Response:
        """A response whose text defaults by its class (rest-api.md §2)."""
        return cls(code, _DEFAULT_MESSAGE.get(code // 100, "internal error") if message is None else message)

    @property
    def ok(self) -> bool:
        return 200 <= self.code <= 299

    @property
    def temporary(self) -> bool:
        """A failure that a later attempt may turn into success."""
        return 400 <= self.code <= 499

    @property
    def permanent(self) -> bool:
        """A failure that stays: 5xx, and every code that is no reply at all."""
        return not self.ok and not self.temporary

    @property
    def failed(self) -> bool:
        return not self.ok

    @property
    def enhanced_code(self) -> str:
        """The enhanced status code (RFC 3463): from the text when it agrees with the class, else `X.0.0`."""
        found = _ENHANCED_CODE.match(self.message)
        klass = self.code // 100
        if found and int(found[1]) == klass:
            return found[0]
        return f"{klass if klass in (2, 4, 5) else 5}.0.0"

    def precondition(self, what: str) -> Response:
        """The answer to a command that cannot succeed because this one failed: the same class, never worse."""
        return Response(self.code, f"{self.enhanced_code[0]}.5.1 failed precondition: {what}")

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


#: a bug of ours: somebody mends it, and a later attempt may succeed
INTERNAL_ERROR = Response(451, "4.3.0 internal error, try again later")
#: whoever sent the message went away before its end
BODY_ABORTED = Response(451, "4.4.2 the message did not arrive completely")
#: what was asked before got no answer: the next one might be taken for it, so that nothing more of this transaction succeeds
OUT_OF_STEP = Response(451, "4.3.0 an earlier command of this transaction got no answer, try again later")
