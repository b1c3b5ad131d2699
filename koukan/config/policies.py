"""Are the match expressions of policy_action such that they can ever match?"""

from __future__ import annotations

from collections.abc import Iterator

from koukan.config import filters, matchers
from koukan.config.filters import FilterOptions, PolicyAction
from koukan.config.loader import Path_, Problem, suggest
from koukan.config.matchers import MatcherOptions
from koukan.config.router import ChainConfig, RouterConfig

#: whose output a matcher looks at
_PRODUCERS: dict[type[MatcherOptions], type[FilterOptions]] = {
    matchers.RemoteHostMatcher: filters.RemoteHost,
    matchers.MessageValidationMatcher: filters.MessageValidation,
    matchers.SpfMatcher: filters.SpfCheck,
    matchers.DkimMatcher: filters.DkimCheck,
    matchers.DnsResolutionMatcher: filters.DnsResolution,
    matchers.PolicyActionMatcher: filters.PolicyAction,
}


def check_policies(config: RouterConfig, chain: ChainConfig, path: Path_) -> Iterator[Problem]:
    """Matchers that do not exist, or that ask for what their rule's mode cannot know."""
    for where, rule, matcher in _matchers(chain, path):
        if isinstance(matcher, matchers.PluginMatcher):
            if matcher.matcher not in config.modules.transaction_matcher:
                yield Problem((*where, "matcher"), _unknown(config, matcher.matcher))
            continue
        per_rcpt, after_data = _asks_for_recipient(matcher), _asks_for_body(matcher)
        if per_rcpt and rule.mode != "PER_RCPT":
            yield Problem(where, f"{per_rcpt} is about one recipient; the rule needs `mode: PER_RCPT`")
        if after_data and rule.mode == "PER_RCPT":
            message = f"{after_data} is known after the body only, a rule with `mode: PER_RCPT` is evaluated before it"
            yield Problem(where, f"{message}; leave mode out")


def policy_remarks(chain: ChainConfig, path: Path_) -> Iterator[Problem]:
    """Matchers that look at what no earlier filter of the chain has learned."""
    for where, _, matcher in _matchers(chain, path):
        producer = _PRODUCERS.get(type(matcher))
        position = where[len(path) + 1]
        assert isinstance(position, int)
        earlier = chain.chain[:position]
        if producer is not None and not any(isinstance(item, producer) for item in earlier):
            name = next(n for n, model in filters.FILTER_NAMES.items() if model is producer)
            behind = any(isinstance(item, producer) for item in chain.chain[position:])
            decided = "decided a moment later than it could be, or never" if behind else "never decided"
            yield Problem(where, f"no {name} filter stands before this rule: the matcher is {decided}")
        elif isinstance(matcher, matchers.PolicyActionMatcher):
            yield from _policy_remarks(matcher, [i for i in earlier if isinstance(i, PolicyAction)], where)


def _policy_remarks(
    matcher: matchers.PolicyActionMatcher, earlier: list[PolicyAction], path: Path_
) -> Iterator[Problem]:
    for key, wanted, known in (
        ("tag", matcher.tag, {rule.tag for rule in earlier}),
        ("rule", matcher.rule, {rule.rule for rule in earlier}),
    ):
        if wanted is not None and wanted not in known:
            message = f"no earlier rule of this chain has {key} {wanted!r}{suggest(wanted, known)}"
            yield Problem((*path, key), message)


def _matchers(chain: ChainConfig, path: Path_) -> Iterator[tuple[Path_, PolicyAction, MatcherOptions]]:
    for index, item in enumerate(chain.chain):
        if isinstance(item, PolicyAction):
            for matcher, where in matchers.leaves(item.match, (*path, "chain", index, "match")):
                yield where, item, matcher


def _unknown(config: RouterConfig, name: str) -> str:
    known = [*matchers.MATCHER_NAMES, *config.modules.transaction_matcher]
    short = sorted(n for n in known if not n.startswith("koukan."))
    listed = ", ".join(short)
    return f"there is no matcher {name!r}{suggest(name, known) or f'; there are: {listed}'}"


def _asks_for_recipient(matcher: MatcherOptions) -> str | None:
    """What of the matcher is about one recipient."""
    if isinstance(matcher, (matchers.InvalidRcptTo, matchers.NumRcpts)):
        return matcher.matcher
    if isinstance(matcher, matchers.AddressList) and matcher.which_addr == "rcpt_to":
        return "which_addr: rcpt_to"
    if isinstance(matcher, matchers.DnsResolutionMatcher) and matcher.rcpt_result is not None:
        return "rcpt_result"
    return None


def _asks_for_body(matcher: MatcherOptions) -> str | None:
    """What of the matcher is known after the body only."""
    if isinstance(matcher, (matchers.MessageValidationMatcher, matchers.DkimMatcher)):
        return matcher.matcher
    if isinstance(matcher, matchers.AddressList) and matcher.which_addr == "header_from":
        return "which_addr: header_from"
    return None
