"""What clients, applications and other people's DNS may send, from a seed: envelopes, messages, documents and answers.

Where a text may hold line ends, it holds a header field behind one, which must never become a field of a message.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from koukan.blob.bodies import BytesBody
from koukan.config.router import DnsConfig
from koukan.message.bodies import SpecBody
from koukan.message.builder import PART_LISTS
from koukan.model import Body, EsmtpParam, HostPort, Mailbox, SmtpMeta
from koukan.net.dns import Answer, IpAddress, Mx, Resolver, Status

_FILES = sorted((Path(__file__).parents[1] / "data/messages").glob("*.msg"))
#: messages as SMTP brings them
MAIL = [re.sub(rb"\r?\n", b"\r\n", path.read_bytes()) for path in _FILES]

#: the name of the field that a text would add if it could
INJECTED = "X-Injected"
_BREAKS = [
    f"{end}{INJECTED}: yes{end}" for end in ("\r\n", "\n", "\r", "\r\n\t", "\x0b", "\x0c", "\x85", "\u2028", "\0")
]
_ODD = [*'()<>[]@,;:\\". =?%{}é\u00fc\u202e\u3002\t', "=?utf-8?q?=0D=0AX-Injected:_yes?=", "bücher", "xn--", "a" * 300]
_CLIENTS = ["192.0.2.1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%eth0\u2028"]
_CHANGES = [b"", b"\r", b"\n", b"--", b"\0\xff", MAIL[0][:50]]
_HEADER_LINES = [
    b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=YQ==",
    b"DKIM-Signature: v=1; a=ed25519-sha256; d=b.example; s=s; l=9999; h=from:from; bh=YQ==; b=YQ==; i=@x; t=1; x=2",
    b"DKIM-Signature: =;=;v",
    b"Authentication-Results: mx.example; spf=pass",
    b"authentication-results : (c) \"mx.example\"; none",
    b"From: =?utf-8?q?=0D=0AX-Injected:_yes?= <ann@a.example>, <\xff>",
    b"From: (((((", b"Date: 99 Foo 99999", b"Message-ID: <>", b"Subject: =?utf-16?b?DQA=?=", b"Received: x",
    b"Content-Type: multipart/mixed; boundary=\"--\"", b"Content-Type: message/rfc822", b"Content-Type: ;;;\xff",
    b"Content-Transfer-Encoding: base64", b"Content-Disposition: attachment; filename*0*=x''%0D%0A", b" \t", b":", b"",
]  # fmt: skip
_TEXTS = [
    b"v=spf1 a mx ptr exists:%{L}.%{ir}.%{h}.%{p}.x.example -all exp=why.%{d2}",
    b"v=spf1 include:a.example redirect=b.example exp=%{l}.example",
    b"v=spf1 -all exp=%{i}.example",
    b"v=spf1 ~all",
    b"v=spf1 ip4:0.0.0.0/0",
    b"v=spf1 \r\nX-Injected: yes",
    b"%{c} \r\nX-Injected: yes %{r}",
    b"%{i} may not send as %{s} (%{h})\\",
    b"v=DKIM1; k=rsa; p=YQ==",
    b"v=DKIM1; k=ed25519; p=",
    b"\xff\0\r\n",
]
_NAMES = ["a.example.", "mx.b.example.", "a\\013\\010X-Injected:\\032yes.example.", "(.example.", ".", "\\@\\(\\255."]


class Hostile:
    """A source of input; what it gives depends on the seed alone."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def text(self, *, breaks: bool = True) -> str:
        """Anything; with `breaks` also line ends and other controls."""
        pieces = [*_ODD, "ann", "a.example", *(_BREAKS if breaks else ())]
        return "".join(self._random.choices(pieces, k=self._random.randrange(5)))

    def mailbox(self) -> Mailbox:
        params = (EsmtpParam("SMTPUTF8"),) if self.chance(0.3) else ()
        if self.chance(0.2):
            return Mailbox(self.text(), params)
        local = self._random.choice(["ann", "bücher", '"a b"', '"(\\""', "x" * 200])
        domain = self._random.choice(
            ["a.example", "b.example", "[192.0.2.1]", "[IPv6:::1]", "bücher.example", "x." * 99]
        )
        return Mailbox(f"{local}@{domain}", params)

    def client(self) -> HostPort | None:
        host = self._random.choice([None, *_CLIENTS, self.text() or "x"])
        return None if host is None else HostPort(host, 25)

    def meta(self) -> SmtpMeta | None:
        if self.chance(0.2):
            return None
        flags = [self.chance(0.5) for _ in range(3)]
        extra = {name: self._random.choice([1, None, self.text(), "TLSv1.3"]) for name in ("tls_version", "tls_cipher")}
        ehlo = self._random.choice([None, "a.example", "[192.0.2.1]", self.text()])
        return SmtpMeta(ehlo, esmtp=flags[0], tls=flags[1], auth=flags[2], extra=extra)

    def message(self) -> bytes:
        """A message, more or less: one of the test data with header fields added, pieces moved, bytes changed."""
        data = bytearray(self._random.choice(MAIL))
        for _ in range(self._random.randrange(4)):
            line = self._random.choice(_HEADER_LINES)
            data[:0] = line + b"\r\n" if not self.chance(0.1) else line
        for _ in range(self._random.choice([0, 0, 1, 5])):
            at = self._random.randrange(len(data) + 1)
            data[at : at + self._random.randrange(40)] = self._random.choice(_CHANGES)
        return bytes(data)

    def document(self) -> SpecBody:
        """A document for message_builder in its stored form, most of it renderable."""
        boxes = [{"display_name": self._sometimes("Ann"), "address": self._sometimes("ann@a.example")}]
        headers: list[object] = [
            ["from", boxes],
            ["subject", self._sometimes("hello")],
            ["to", self._sometimes("b@b.example")],
            ["cc", [{"group": self._sometimes("all"), "members": boxes}]],
            ["references", [self._sometimes("id@a.example")]],
            [self._sometimes("x-extra"), self._sometimes("x")],
        ]
        blobs: dict[str, Body] = {}
        lists: dict[str, object] = {}
        for name in PART_LISTS:
            ids = [f"{name}{i}" for i in range(self._random.randrange(3))]
            lists[name] = [self._part(blob_id) for blob_id in ids]
            blobs.update((blob_id, BytesBody(self.text(breaks=False).encode())) for blob_id in ids)
        return SpecBody({"headers": headers, **lists}, blobs)

    def _part(self, blob_id: str) -> Mapping[str, Any]:
        kind = self._random.choice(["text/plain", "text/html", "image/png", "message/rfc822", "text/x; name=é"])
        return {
            "content_type": self._sometimes(kind),
            "content_id": self._sometimes("logo@a.example"),
            "filename": self._sometimes("report.pdf"),
            "content": {"create_id": blob_id},
        }

    def _sometimes(self, usual: str) -> str:
        """Nearly always what is usual, so that documents with one odd text get through as far as they can."""
        return usual if self.chance(0.97) else usual + self.text()


class HostileDns(Resolver):
    """Answers of whoever owns the zone. Never fails to answer, unless it is told to with `trouble`, a probability."""

    def __init__(self, seed: int, *, trouble: float = 0.0) -> None:
        super().__init__(DnsConfig(nameservers=["192.0.2.53"]))
        self._random = random.Random(seed)
        self._trouble = trouble

    async def _look_up(self, name: str, kind: Any) -> Answer[Any]:
        choose = self._random
        if choose.random() < self._trouble:
            return Answer(Status.TEMPFAIL)
        if choose.random() < 0.2:
            return Answer(choose.choice([Status.NXDOMAIN, Status.NODATA]))
        return Answer(Status.OK, tuple(self._record(kind.type.name) for _ in range(choose.choice([1, 1, 1, 2, 12]))))

    def _record(self, kind: str) -> IpAddress | Mx | str | bytes:
        choose = self._random
        if kind == "TXT":
            return choose.choice(_TEXTS)
        if kind == "PTR":
            return choose.choice(_NAMES)
        if kind == "MX":
            return Mx(choose.randrange(3), choose.choice(_NAMES).rstrip(".") or ".")
        return ip_address(choose.choice(["192.0.2.1", "127.0.0.1"] if kind == "A" else ["2001:db8::1", "::1"]))
