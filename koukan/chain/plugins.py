"""Plug-ins: filters, routing policies and matchers of others, named in `modules` (docs/plugins.md).

    modules.sync_filter              factory(options, context) -> Filter | None
    modules.recipient_router_policy  factory(options, context) -> RoutingPolicy
    modules.transaction_matcher      match(options, tx, recipient) -> bool | None

Everything is imported and its signature checked when the configuration is loaded: a plug-in that cannot work never starts.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from koukan.chain.filter import Context, Filter, PluginFactory
from koukan.chain.matchers.verdict import MatchFunction
from koukan.chain.routing.policy import PolicyFactory, RoutingPolicy
from koukan.config.filters import FILTER_NAMES
from koukan.config.loader import suggest
from koukan.config.matchers import MATCHER_NAMES
from koukan.config.router import ModulesConfig
from koukan.config.routing import POLICY_NAMES
from koukan.errors import ConfigError

#: the sample plug-ins of the existing Koukan, which its sample configuration names; ours do the same: nothing
_SAMPLES = {
    "koukan.hello_filter": "koukan.chain.filters.hello",
    "koukan.hello_policy": "koukan.chain.routing.hello",
    "koukan.hello_matcher": "koukan.chain.matchers.hello",
}


_HOOKS = tuple(name for name in vars(Filter) if name.startswith("on_"))


@dataclass(frozen=True, slots=True)
class _Kind:
    """One stanza of `modules`."""

    stanza: str
    what: str
    #: function when the entry names none
    default: str
    parameters: tuple[str, ...]
    returns: str
    #: names that are taken
    built_in: frozenset[str]

    @property
    def signature(self) -> str:
        return f"({', '.join(self.parameters)}) -> {self.returns}"


_FILTER = _Kind("sync_filter", "filter", "factory", ("options", "context"), "Filter | None", frozenset(FILTER_NAMES))
_POLICY = _Kind(
    "recipient_router_policy",
    "routing policy",
    "factory",
    ("options", "context"),
    "RoutingPolicy",
    frozenset(POLICY_NAMES),
)
_MATCHER = _Kind(
    "transaction_matcher",
    "matcher",
    "match",
    ("options", "tx", "recipient"),
    "bool | None",
    frozenset(MATCHER_NAMES),
)


@dataclass(frozen=True, slots=True)
class Plugins:
    """What `modules` names, imported."""

    filters: Mapping[str, PluginFactory] = field(default_factory=dict)
    policies: Mapping[str, PolicyFactory] = field(default_factory=dict)
    matchers: Mapping[str, MatchFunction] = field(default_factory=dict)

    @classmethod
    def load(cls, modules: ModulesConfig) -> Plugins:
        """Import every plug-in. Raises ConfigError that names the entry and what would be right."""
        return cls(
            _load_all(_FILTER, modules.sync_filter),
            _load_all(_POLICY, modules.recipient_router_policy),
            _load_all(_MATCHER, modules.transaction_matcher),
        )

    def filter(self, name: str, options: Mapping[str, Any], context: Context) -> Filter | None:
        """The filter of that name with these options; None when it is off. Raises ConfigError."""
        made = _make(_FILTER, self.filters, name, options, context)
        if made is None:
            return None
        if not isinstance(made, Filter):
            raise ConfigError(
                f"the factory of filter {name!r} must return a koukan.chain.filter.Filter or None, not {made!r}"
            )
        _check_hooks(name, type(made))
        return made

    def policy(self, name: str, options: Mapping[str, Any], context: Context) -> RoutingPolicy:
        """The routing policy of that name. Raises ConfigError."""
        made: RoutingPolicy = _make(_POLICY, self.policies, name, options, context)
        if inspect.iscoroutinefunction(getattr(made, "route", None)):
            return made
        raise ConfigError(
            f"the factory of routing policy {name!r} must return an object with `async def route(self, tx, recipient)`, "
            f"not {made!r}"
        )


def _check_hooks(name: str, kind: type[Filter]) -> None:
    """Raises ConfigError for what looks like a hook and would never be called, or could not be."""
    for attribute in dir(kind):
        function = getattr(kind, attribute)
        if not attribute.startswith("on_") or not callable(function):
            continue
        wanted = getattr(Filter, attribute, None)
        if wanted is None:
            hint = suggest(attribute, _HOOKS) or f"; hooks are {', '.join(_HOOKS)}"
            raise ConfigError(f"filter {name!r}: {kind.__name__}.{attribute} is no hook and is never called{hint}")
        expected = f"expected `async def {attribute}{inspect.signature(wanted)}`"
        if not inspect.iscoroutinefunction(function):
            raise ConfigError(f"filter {name!r}: {kind.__name__}.{attribute} must be async; {expected}")
        try:
            inspect.signature(function).bind(*inspect.signature(wanted).parameters)
        except TypeError:
            found = inspect.signature(function)
            raise ConfigError(
                f"filter {name!r}: {kind.__name__}.{attribute}{found} cannot be called; {expected}"
            ) from None


def _make(
    kind: _Kind,
    factories: Mapping[str, Callable[[Mapping[str, Any], Context], Any]],
    name: str,
    options: Mapping[str, Any],
    context: Context,
) -> Any:
    if name not in factories:
        raise ConfigError(f"there is no {kind.what} {name!r}; plug-ins are named in modules.{kind.stanza}")
    try:
        return factories[name](options, context)
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{kind.what} {name!r} does not take its options: {reason}") from error


def _load_all(kind: _Kind, entries: Mapping[str, str]) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for name, target in entries.items():
        try:
            loaded[name] = _load(kind, name, target)
        except ConfigError as error:
            raise ConfigError(str(error), ("modules", kind.stanza, name)) from error
    return loaded


def _load(kind: _Kind, name: str, target: str) -> Any:
    where = f"modules.{kind.stanza}.{name}"
    module_name, colon, function_name = target.partition(":")
    sample = _SAMPLES.get(module_name)
    if sample is None and name in kind.built_in:
        raise ConfigError(f"{where}: {name!r} is a built-in {kind.what}; give the plug-in another name")
    if colon and not function_name:
        raise ConfigError(f"{where}: must be `package.module` or `package.module:function`, got {target!r}")
    function_name = function_name or kind.default
    try:
        module = importlib.import_module(sample or module_name)
    except Exception as error:
        raise ConfigError(f"{where}: cannot import {module_name!r}: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(
            f"{where}: {module_name!r} has no function {function_name!r}; expected `def {function_name}{kind.signature}`"
        )
    _check_signature(kind, where, f"{module_name}:{function_name}", function)
    return function


def _check_signature(kind: _Kind, where: str, target: str, function: Callable[..., Any]) -> None:
    expected = f"expected `def {target.rpartition(':')[2]}{kind.signature}`"
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{where}: {target} must not be async; {expected}")
    signature = inspect.signature(function)
    try:
        signature.bind(*kind.parameters)
    except TypeError:
        raise ConfigError(f"{where}: {target}{signature} cannot be called; {expected}") from None
