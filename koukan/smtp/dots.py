"""Transparency of the DATA command (RFC 5321 §4.5.2): dots added and taken away, chunk by chunk, never line by line."""

from __future__ import annotations

_END = b"\r\n.\r\n"


class DotDecoder:
    """Finds the end of a message and undoes dot-stuffing, however the bytes are split into chunks.

    Only CRLF.CRLF ends a message: a dot between bare line feeds is data, so that no input is taken for two messages where
    the sender meant one.
    """

    def __init__(self) -> None:
        # The CRLF of the DATA command itself counts: a message may consist of nothing but the final dot.
        self._carry = b"\r\n"
        self._virtual = 2
        self.done = False
        #: what followed the end of the message: the next commands of a pipelining client
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The message bytes that have become certain."""
        data = self._carry + chunk
        end = data.find(_END)
        if end >= 0:
            self.done = True
            self.rest = data[end + len(_END) :]
            self._carry = b""
            # The CRLF before the dot belongs to the message.
            return self._unstuffed(data[: end + 2])
        # The end may straddle the chunks: what could be its beginning waits, and so does the context of a stuffed dot.
        keep = _possible_end(data)
        self._carry = data[len(data) - keep :]
        return self._unstuffed(data[: len(data) - keep])

    def _unstuffed(self, data: bytes) -> bytes:
        out = data.replace(b"\r\n.", b"\r\n")
        if self._virtual:
            skipped = min(self._virtual, len(out))
            self._virtual -= skipped
            out = out[skipped:]
        return out


def _possible_end(data: bytes) -> int:
    """How many bytes at the end of `data` may be the beginning of CRLF.CRLF."""
    for size in range(min(len(_END) - 1, len(data)), 0, -1):
        if data.endswith(_END[:size]):
            return size
    return 0


class DotEncoder:
    """Adds what transparency asks for, however the message is split into chunks.

    Dots are doubled after a bare line feed too: a next hop that takes those for line ends must not see the end of the
    message in its middle.
    """

    def __init__(self) -> None:
        self._at_line_start = True
        self._last = b""

    def encode(self, chunk: bytes) -> bytes:
        """The bytes to send for a chunk."""
        if not chunk:
            return b""
        out = chunk.replace(b"\n.", b"\n..")
        if self._at_line_start and chunk[:1] == b".":
            out = b"." + out
        self._at_line_start = chunk[-1:] == b"\n"
        self._last = (self._last + chunk[-2:])[-2:]
        return out

    def finish(self) -> bytes:
        """The end of the message, after a line end that is added if it is missing."""
        return b".\r\n" if self._last in (b"", b"\r\n") else b"\r\n.\r\n"
