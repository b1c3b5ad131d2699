"""What the rules of a chain know of each other: which have matched, which are decided, and the matcher that asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from koukan.chain.matchers.verdict import Matcher, Verdict
from koukan.chain.outputs import PolicyActionOutput
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import matchers


@dataclass(slots=True)
class PolicyState:
    """What the rules of one transaction share, in `tx.notes`. `matched` names of tags and rules are in the output.

    A moment is the reverse-path, one recipient, or the body: where the rules of a chain are gone through once.
    """

    moment: str | int = ""
    #: whose input is not known at this moment
    unmet_tags: set[str] = field(default_factory=set)
    unmet_rules: set[str] = field(default_factory=set)
    #: that were evaluated to yes or no
    decided_tags: set[str] = field(default_factory=set)
    decided_rules: set[str] = field(default_factory=set)

    @classmethod
    def at(cls, tx: Transaction, moment: str | int) -> PolicyState:
        """The state at that moment of the transaction."""
        state = cls.of(tx)
        if state.moment != moment:
            state.moment = moment
            state.unmet_tags.clear()
            state.unmet_rules.clear()
        return state

    @classmethod
    def of(cls, tx: Transaction) -> PolicyState:
        state: PolicyState = tx.notes.setdefault(cls, cls())
        return state

    def note(self, tag: str, rule: str, verdict: Verdict) -> None:
        """A rule was evaluated."""
        tags, rules = (
            (self.unmet_tags, self.unmet_rules) if verdict is None else (self.decided_tags, self.decided_rules)
        )
        tags.add(tag)
        rules.add(rule)


def record(tx: Transaction, *, tag: str | None = None, rule: str | None = None) -> None:
    """Write into the output that they have matched; without either, only that rules were evaluated."""
    before = tx.output(PolicyActionOutput) or PolicyActionOutput()
    tx.add_output(PolicyActionOutput(_with(before.matched_tags, tag), _with(before.matched_rules, rule)))


def _with(names: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    return names if name is None or name in names else (*names, name)


def policy_action(options: matchers.PolicyActionMatcher) -> Matcher:
    """The tag, or the rule, has matched. Not known while a rule that may still match it waits for its input."""

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        found = tx.output(PolicyActionOutput)
        if found is not None and (options.tag in found.matched_tags or options.rule in found.matched_rules):
            return True
        state = PolicyState.of(tx)
        if options.tag in state.unmet_tags or options.rule in state.unmet_rules:
            return None
        decided = options.tag in state.decided_tags or options.rule in state.decided_rules
        return False if decided or found is not None else None

    return match
