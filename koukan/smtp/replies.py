"""The one place where a Response becomes bytes on an SMTP connection (RFC 5321 §4.2)."""

from __future__ import annotations

from koukan.model import Response

#: bytes of one reply line including code and CRLF (RFC 5321 §4.5.3.1.5)
LINE_LIMIT = 512
#: lines of one reply; a next hop's essay need not be repeated in full
LINES_LIMIT = 50


def render(response: Response) -> bytes:
    """A reply of one or more lines; text that is not printable ASCII is replaced, long lines are wrapped."""
    code = response.code if 200 <= response.code <= 599 else 451
    lines = [part for line in response.message.split("\n") for part in _wrapped(line)][:LINES_LIMIT] or [""]
    head = "".join(f"{code}-{line}\r\n" for line in lines[:-1])
    return f"{head}{code} {lines[-1]}\r\n".encode("ascii")


def _wrapped(line: str) -> list[str]:
    if line.isascii() and line.isprintable():
        clean = line
    else:
        clean = "".join(c if c.isascii() and c.isprintable() else " " if c.isspace() else "?" for c in line)
    width = LINE_LIMIT - 6
    return [clean[start : start + width].rstrip() for start in range(0, max(len(clean), 1), width)]
