"""Matchers that look at what earlier filters have learned. What no filter has learned is not known."""

from __future__ import annotations

from collections.abc import Iterable

from koukan.chain.matchers.verdict import Matcher, Verdict
from koukan.chain.outputs import (
    DkimAlignment,
    DkimCheckOutput,
    DkimResult,
    DkimStatus,
    DnsResolutionOutput,
    DnsStatus,
    MessageValidationOutput,
    RemoteHostOutput,
    SpfCheckOutput,
    SpfStatus,
)
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import matchers
from koukan.message.validation import Level

_DKIM_STATUS = {
    "dkim_pass": DkimStatus.PASS,
    "pass": DkimStatus.PASS,
    "fail": DkimStatus.FAIL,
    "temp_err": DkimStatus.TEMP_ERR,
    "unknown_algo": DkimStatus.UNKNOWN_ALGO,
}


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """No when one is no; else not known when one is not; else yes."""
    known = True
    for verdict in verdicts:
        if verdict is None:
            known = False
        elif not verdict:
            return False
    return True if known else None


def remote_host(options: matchers.RemoteHostMatcher) -> Matcher:
    """The client's name is (not) confirmed, its EHLO name (not) the confirmed one."""

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(RemoteHostOutput)
        if found is None:
            return None
        return options.fcrdns in (None, found.fcrdns) and options.ehlo_alignment in (None, found.ehlo_alignment)

    return match


def message_validation(options: matchers.MessageValidationMatcher) -> Matcher:
    """The message is less valid than the threshold, and has been through more hops than allowed, whichever is configured."""
    threshold = None if options.validity_threshold is None else Level[options.validity_threshold]

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(MessageValidationOutput)
        if found is None:
            return None
        verdicts: list[Verdict] = []
        if threshold is not None:
            verdicts.append(found.status < threshold)
        if options.max_received_headers is not None:
            count = found.received_header_count
            verdicts.append(None if count is None else count > options.max_received_headers)
        return every(verdicts)

    return match


def spf_check(options: matchers.SpfMatcher) -> Matcher:
    """The verdicts on the envelope sender and on an extra domain are these."""
    mail_from = _spf_status(options.mail_from_result)
    extra = _spf_status(options.extra_domain_result)
    domain = (options.extra_domain or "").lower()

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(SpfCheckOutput)
        if found is None:
            return None
        verdicts: list[Verdict] = []
        if mail_from is not None:
            verdicts.append(found.mail_from_result is mail_from)
        if extra is not None:
            results = {name.lower(): result for name, result in found.extra_domains_results.items()}
            verdicts.append(None if domain not in results else results[domain] is extra)
        return every(verdicts)

    return match


def _spf_status(name: matchers.SpfName | None) -> SpfStatus | None:
    return None if name is None else SpfStatus[name.removeprefix("spf_").replace("_", "").upper()]


def dkim_check(options: matchers.DkimMatcher) -> Matcher:
    """Any signature has the status and is aligned well enough, or is of one of the domains."""
    status = _DKIM_STATUS[options.status]
    alignment = DkimAlignment[options.alignment.upper()]
    domains = None if options.domains is None else frozenset(d.lower() for d in options.domains)

    def fits(result: DkimResult) -> bool:
        if result.status is not status:
            return False
        if domains is not None:
            return result.domain is not None and result.domain.lower() in domains
        # A signature that nothing can be compared with is as far away as one of another domain.
        return (DkimAlignment.OTHER if result.alignment is None else result.alignment) <= alignment

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(DkimCheckOutput)
        return None if found is None else any(fits(result) for result in found.results)

    return match


def dns_resolution(options: matchers.DnsResolutionMatcher) -> Matcher:
    """The domains of the envelope and the hosts of the route resolve like this."""
    mail = _dns_status(options.mail_result)
    rcpt = _dns_status(options.rcpt_result)
    resolution = _dns_status(options.resolution_result)

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(DnsResolutionOutput)
        if found is None:
            return None
        verdicts: list[Verdict] = []
        if mail is not None:
            verdicts.append(_is(found.mail_from_result, mail))
        if rcpt is not None:
            verdicts.append(_is(_of_recipient(found, recipient), rcpt))
        if resolution is not None:
            verdicts.append(_is(found.resolution_result, resolution))
        return every(verdicts)

    return match


def _dns_status(name: str | None) -> DnsStatus | None:
    return None if name is None else DnsStatus[name]


def _is(found: DnsStatus | None, wanted: DnsStatus) -> Verdict:
    return None if found is None else found is wanted


def _of_recipient(found: DnsResolutionOutput, recipient: Recipient | None) -> DnsStatus | None:
    if recipient is None or recipient.index >= len(found.rcpt_to_result):
        return None
    return found.rcpt_to_result[recipient.index]
