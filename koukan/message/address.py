"""Mail addresses as SMTP has them: `local-part@domain` (RFC 5321 §4.1.2, RFC 6531 §3.3).

`parse_address` keeps to the grammar. `read_address` takes what others issue as well, though the grammar forbids it: dots
anywhere in the local part, underscores in the domain. Such mailboxes exist, and only their own hosts may say whether.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna

from koukan.message import lexical

# RFC 6531 extends both sides by UTF-8; C1 controls, NO-BREAK SPACE and lone surrogates are left out on purpose.
_UTF8 = "\u00a1-\ud7ff\ue000-\U0010ffff"
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~\-{_UTF8}]+"
_ATOM_OR_DOT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.\-{_UTF8}]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED_STRING = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"'
# The dots and spaces that Unicode adds to ASCII's would make one name look like another.
_LETTER = rf"(?:[A-Za-z0-9]|(?![\s\u3002\uff0e\uff61])[{_UTF8}])"
_LABEL = rf"{_LETTER}(?:(?:{_LETTER}|-)*{_LETTER})?"
_MAILBOX = re.compile(
    rf"(?P<local>{_DOT_STRING}|{_QUOTED_STRING})@(?P<domain>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Za-z:.]+\])"
)
_DOT_STRING_ONLY = re.compile(_DOT_STRING)
_LOOSE_LABEL = rf"(?:{_LETTER}|_)(?:(?:{_LETTER}|[-_])*(?:{_LETTER}|_))?"
_LOOSE_MAILBOX = re.compile(
    rf"(?P<local>{_ATOM_OR_DOT}|{_QUOTED_STRING})@(?P<domain>{_LOOSE_LABEL}(?:\.{_LOOSE_LABEL})*|\[[0-9A-Za-z:.]+\])"
)
_LOCAL_ONLY = re.compile(rf"{_ATOM_OR_DOT}|{_QUOTED_STRING}")
_LOOSE_LABEL_ONLY = re.compile(_LOOSE_LABEL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)

#: octets of a domain (RFC 1035 §2.3.4): no DNS name is longer
MAX_DOMAIN = 255
#: octets of one label of a domain (RFC 1035 §2.3.4)
MAX_LABEL = 63
#: the mailbox that every mail server has, in any case (RFC 5321 §4.5.1)
POSTMASTER = "postmaster"
#: characters of an address that are looked at: four times what a path may have (RFC 5321 §4.5.3.1.3), for generous senders
MAX_ADDRESS = 1024


@dataclass(frozen=True)
class Address:
    """One mailbox.

    `local` is what it means, without quoting: `"a b"@c.d` has `a b`. `domain` is lower-cased and otherwise as written, with
    U-labels or A-labels (RFC 5890), or an address literal with its brackets.
    """

    local: str
    domain: str

    @cached_property
    def literal(self) -> IPv4Address | IPv6Address | None:
        """The address of an address literal (RFC 5321 §4.1.3), None for a name."""
        return _parse_literal(self.domain) if self.domain.startswith("[") else None

    def __str__(self) -> str:
        if _DOT_STRING_ONLY.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        return f"{lexical.quote(self.local)}@{self.domain}"


def parse_address(text: str) -> Address | None:
    """The mailbox that `text` is, or None. Strict: no comments, spaces, angle brackets, source routes or trailing dots."""
    return _mailbox(_MAILBOX, text)


def read_address(text: str) -> Address | None:
    """The mailbox that `text` is, or None. As `parse_address`, but with `a..b@c`, `a.@c`, `.a@c` and `a@b_c.d`."""
    return _mailbox(_LOOSE_MAILBOX, text)


def read_recipient(text: str) -> Address | None:
    """The mailbox of a forward-path, or None. Without a domain it is the postmaster of whoever reads it (RFC 5321 §4.5.1).

    That one has an empty `domain`.
    """
    return Address(POSTMASTER, "") if text.lower() == POSTMASTER else read_address(text)


def find_fault(text: str) -> str | None:
    """What keeps `text` from being a mailbox, in words for a reply; None when `read_recipient` takes it."""
    if read_recipient(text) is not None:
        return None
    if len(text) > MAX_ADDRESS:
        return "the address is too long"
    local, at, domain = text.rpartition("@")
    if not at:
        return "the address has no domain"
    if not local:
        return "nothing stands before the @"
    if not _LOCAL_ONLY.fullmatch(local):
        return "the part before the @ holds a character that must not stand there unquoted"
    return _find_domain_fault(domain)


def _find_domain_fault(domain: str) -> str:
    if domain.startswith("["):
        return "what stands in brackets is no IP address"
    labels = domain.split(".")
    if not all(labels):
        return "the domain has an empty label" if domain else "nothing stands behind the @"
    if not all(map(_LOOSE_LABEL_ONLY.fullmatch, labels)):
        return "the domain holds a character that no domain has"
    return "the domain is longer than any can be"


def _mailbox(grammar: re.Pattern[str], text: str) -> Address | None:
    if len(text) > MAX_ADDRESS:
        return None
    found = grammar.fullmatch(text)
    if found is None:
        return None
    local, domain = found["local"], found["domain"].lower()
    if not _possible_domain(domain):
        return None
    if local.startswith('"'):
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    return Address(local, domain)


def address_literal(address: IPv4Address | IPv6Address) -> str:
    """An IP address as it stands for a domain (RFC 5321 §4.1.3)."""
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"


def ascii_domain(domain: str) -> str | None:
    """A domain as DNS has it, U-labels turned to A-labels (RFC 5891, UTS 46); None when it is no name."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return None


def _possible_domain(domain: str) -> bool:
    if domain.startswith("["):
        return _parse_literal(domain) is not None
    if domain.isascii():
        return len(domain) <= MAX_DOMAIN and (len(domain) <= MAX_LABEL or max(map(len, domain.split("."))) <= MAX_LABEL)
    return len(domain) <= MAX_DOMAIN


def _parse_literal(domain: str) -> IPv4Address | IPv6Address | None:
    text = domain[1:-1]
    try:
        if text.lower().startswith("ipv6:"):
            return IPv6Address(text[5:])
        address = ip_address(text)
    except ValueError:
        return None
    # An IPv6 literal without its tag is no address-literal of RFC 5321.
    return address if isinstance(address, IPv4Address) else None
