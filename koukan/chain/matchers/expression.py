"""Match expressions, compiled once when the configuration is loaded: `not`, `any`, `all` and the matchers they combine.

Logic with three values: yes, no, and not known. `any` answers with its first operand that is not no, `all` with its first that
is not yes, so that a rule waits for an input that stands before the one that would decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from koukan.chain.matchers import hello, outputs, policies, simple
from koukan.chain.matchers.verdict import Matcher, Verdict
from koukan.chain.plugins import Plugins
from koukan.chain.transaction import Recipient, Transaction
from koukan.config import matchers
from koukan.config.matchers import MatcherOptions, MatchExpression
from koukan.errors import ConfigError

#: a new matcher is an options model, a function and one line here
_MATCHERS: dict[type[MatcherOptions], Callable[[Any], Matcher]] = {
    matchers.AddressList: simple.address_list,
    matchers.InvalidMailFrom: simple.invalid_mail_from,
    matchers.InvalidRcptTo: simple.invalid_rcpt_to,
    matchers.NetworkAddress: simple.network_address,
    matchers.NumRcpts: simple.num_rcpts,
    matchers.SmtpTls: simple.smtp_tls,
    matchers.SmtpAuth: simple.smtp_auth,
    matchers.RemoteHostMatcher: outputs.remote_host,
    matchers.MessageValidationMatcher: outputs.message_validation,
    matchers.SpfMatcher: outputs.spf_check,
    matchers.DkimMatcher: outputs.dkim_check,
    matchers.DnsResolutionMatcher: outputs.dns_resolution,
    matchers.PolicyActionMatcher: policies.policy_action,
    matchers.HelloMatcher: lambda options: lambda tx, recipient: hello.match({}, tx, recipient),
}


def compile_expression(expression: MatchExpression | None, plugins: Plugins) -> Matcher:
    """The matcher that an expression is; none at all always matches. Raises ConfigError."""
    if expression is None:
        return lambda tx, recipient: True
    if isinstance(expression, matchers.NotExpression):
        return _not(compile_expression(expression.not_, plugins))
    if isinstance(expression, matchers.AnyExpression):
        return _first([compile_expression(e, plugins) for e in expression.any], passed=False)
    if isinstance(expression, matchers.AllExpression):
        return _first([compile_expression(e, plugins) for e in expression.all], passed=True)
    if isinstance(expression, matchers.PluginMatcher):
        return _plugin(expression, plugins)
    return _MATCHERS[type(expression)](expression)


def _not(operand: Matcher) -> Matcher:
    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        verdict = operand(tx, recipient)
        return None if verdict is None else not verdict

    return match


def _first(operands: Sequence[Matcher], *, passed: bool) -> Matcher:
    """The first verdict that is not `passed`, else `passed`."""

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        for operand in operands:
            verdict = operand(tx, recipient)
            if verdict is not passed:
                return verdict
        return passed

    return match


def _plugin(options: matchers.PluginMatcher, plugins: Plugins) -> Matcher:
    function = plugins.matchers.get(options.matcher)
    if function is None:
        raise ConfigError(f"there is no matcher {options.matcher!r}; plug-ins are named in modules.transaction_matcher")
    arguments = dict(options.model_extra or {})

    def match(tx: Transaction, recipient: Recipient | None) -> Verdict:
        verdict = function(arguments, tx, recipient)
        return None if verdict is None else bool(verdict)

    return match
