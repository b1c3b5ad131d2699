"""policy_action: acts when an expression matches: rejects, or records the match for later filters and receivers.

A rule is evaluated at every moment (reverse-path, each recipient, body) until it is decided, so it acts at the earliest moment
at which its inputs are known. With `mode: PER_RCPT` it is evaluated for each recipient alone, when that arrives.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from koukan.chain.filter import Context, Filter
from koukan.chain.matchers.expression import compile_expression
from koukan.chain.matchers.policies import PolicyState, record
from koukan.chain.matchers.simple import HeaderFrom
from koukan.chain.matchers.verdict import Matcher
from koukan.chain.outputs import PolicyActionOutput
from koukan.chain.plugins import Plugins
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import filters
from koukan.config.matchers import reads_header_from
from koukan.logs import event
from koukan.message.bodies import SpecBody
from koukan.model import Body, Mailbox, Response

logger = logging.getLogger("koukan.policy")


class Rule:
    """What a policy_action does once it matches."""

    def __init__(self, options: filters.PolicyAction, rng: random.Random) -> None:
        self.tag = options.tag
        self.name = options.rule
        self._rejection = Response(
            options.code,
            f"{options.code // 100}.6.0 message rejected {self.name}" if options.message is None else options.message,
        )
        self._choose = _chooser(options.action, rng)

    def act(self, tx: Transaction, recipient: Recipient | None) -> Response | None:
        """Record the match; the response of a rejection."""
        action = self._choose()
        record(tx, tag=None if action == "LOG" else self.tag, rule=self.name)
        if action != "MATCH":
            rcpt = None if recipient is None else recipient.mailbox.address
            event(logger, logging.INFO, "policy", id=tx.id, tag=self.tag, rule=self.name, action=action, rcpt_to=rcpt)
        return self._rejection if action == "REJECT" else None


def _chooser(action: str | list[filters.WeightedAction], rng: random.Random) -> Callable[[], str]:
    if isinstance(action, str):
        return lambda: action
    weights, actions = [weight for weight, _ in action], [name for _, name in action]
    return lambda: rng.choices(actions, weights)[0]


class PolicyAction(Filter):
    """A rule about the whole transaction. Once it rejects, it answers everything that is outstanding and still comes."""

    def __init__(self, rule: Rule, match: Matcher, *, reads_from: bool = False) -> None:
        self._rule = rule
        self._match = match
        #: the header block is read for From; everything else that a rule waits for is there when the body's turn comes
        self.needs_complete_body = reads_from

    async def on_mail(self, tx: Transaction, mail_from: Mailbox) -> Response | None:
        return self._evaluate(tx, "mail")

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        return self._evaluate(tx, recipient.index)

    async def on_body(self, tx: Transaction, body: Body) -> Response | Body | None:
        if self.needs_complete_body and not isinstance(body, SpecBody):
            await HeaderFrom.read(tx, body)
        return self._evaluate(tx, "body")

    def _evaluate(self, tx: Transaction, moment: str | int) -> Response | None:
        state, rule = PolicyState.at(tx, moment), self._rule
        rejection: Response | None = tx.notes.get(self)
        if rejection is not None or rule.tag in state.unmet_tags or _retired(tx, rule):
            return rejection
        verdict = self._match(tx, None)
        state.note(rule.tag, rule.name, verdict)
        if not verdict:
            return None
        rejection = rule.act(tx, None)
        if rejection is not None:
            tx.notes[self] = rejection
        return rejection


def _retired(tx: Transaction, rule: Rule) -> bool:
    """A rule of the same tag, or this one, has matched."""
    found = tx.output(PolicyActionOutput)
    return found is not None and (rule.tag in found.matched_tags or rule.name in found.matched_rules)


class RecipientPolicyAction(Filter):
    """A rule about each recipient alone; matching one recipient says nothing about the next."""

    def __init__(self, rule: Rule, match: Matcher) -> None:
        self._rule = rule
        self._match = match

    async def on_rcpt(self, tx: Transaction, recipient: Recipient) -> Response | None:
        verdict = self._match(tx, recipient)
        PolicyState.at(tx, recipient.index).note(self._rule.tag, self._rule.name, verdict)
        if verdict:
            return self._rule.act(tx, recipient)
        record(tx)
        return None


def build(options: filters.PolicyAction, context: Context, plugins: Plugins) -> Filter:
    """The filter as configured. Raises ConfigError."""
    rule, match = Rule(options, context.random), compile_expression(options.match, plugins)
    if options.mode == "PER_RCPT":
        return RecipientPolicyAction(rule, match)
    return PolicyAction(rule, match, reads_from=reads_header_from(options.match))
