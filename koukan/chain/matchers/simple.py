"""Matchers that look at the envelope and at what the gateway knows of the client."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from koukan.chain.addresses import AddressSet
from koukan.chain.matchers.verdict import Matcher, Verdict
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import matchers
from koukan.message.address import POSTMASTER, Address, parse_address, read_address, read_recipient
from koukan.message.headers import header_from, read_headers
from koukan.model import Body


class HeaderFrom:
    """Key of `tx.notes`: the addresses of the message's From field, read once for all matchers that ask for them."""

    @staticmethod
    async def read(tx: Transaction, body: Body) -> None:
        """Note them. Raises InvalidMessage for a header block without bounds."""
        if HeaderFrom not in tx.notes:
            tx.notes[HeaderFrom] = header_from(await read_headers(body))

    @staticmethod
    def of(tx: Transaction) -> Sequence[Address] | None:
        found: Sequence[Address] | None = tx.notes.get(HeaderFrom)
        return found


def address_list(options: matchers.AddressList) -> Matcher:
    """An address is in the list. The null reverse-path, and what is no valid address, is in none."""
    addresses = AddressSet.of(options.domains, options.prefixes, options.delimiter)

    def has(address: Address | None) -> bool:
        return address is not None and address in addresses

    def any_from(tx: Transaction) -> Verdict:
        found = HeaderFrom.of(tx)
        return None if found is None else any(address in addresses for address in found)

    if options.which_addr == "mail_from":
        return lambda tx, recipient: None if tx.mail_from is None else has(read_address(tx.mail_from.address))
    if options.which_addr == "header_from":
        return lambda tx, recipient: any_from(tx)
    return lambda tx, recipient: None if recipient is None else has(read_recipient(recipient.mailbox.address))


def invalid_mail_from(options: matchers.InvalidMailFrom) -> Matcher:
    """The reverse-path is not the null one and no valid address, by the letter of the grammar."""

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        if tx.mail_from is None:
            return None
        return tx.mail_from.address != "" and parse_address(tx.mail_from.address) is None

    return match


def invalid_rcpt_to(options: matchers.InvalidRcptTo) -> Matcher:
    """The recipient is no valid address, by the letter of the grammar; `Postmaster` alone is one (RFC 5321 §4.1.1.3)."""

    def invalid(address: str) -> bool:
        return address.lower() != POSTMASTER and parse_address(address) is None

    return lambda tx, recipient: None if recipient is None else invalid(recipient.mailbox.address)


def network_address(options: matchers.NetworkAddress) -> Matcher:
    """The client's address is in the network; unknown for REST clients that give none."""
    return lambda tx, recipient: in_networks(tx, (options.cidr,))


def in_networks(tx: Transaction, networks: Sequence[IPv4Network | IPv6Network]) -> Verdict:
    """Whether the client's address is in one of the networks; None when it has none."""
    address = tx.client_address
    return None if address is None else any(address in network for network in networks)


def num_rcpts(options: matchers.NumRcpts) -> Matcher:
    """So many earlier recipients are accepted, or still may be, that this one is too many."""

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        if recipient is None:
            return None
        earlier = tx.recipients[: recipient.index]
        taken = sum(r.same_as is None and (r.response is None or r.response.ok) for r in earlier)
        return taken >= options.max_rcpts

    return match


def smtp_tls(options: matchers.SmtpTls) -> Matcher:
    """The client used TLS; unknown for REST clients."""
    return lambda tx, recipient: None if tx.smtp_meta is None else tx.smtp_meta.tls


def smtp_auth(options: matchers.SmtpAuth) -> Matcher:
    """The client is authenticated; unknown for REST clients."""
    return lambda tx, recipient: None if tx.smtp_meta is None else bool(tx.smtp_meta.auth)
