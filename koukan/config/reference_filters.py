"""The reference page of filters, routing policies and matchers, made from their option models."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from koukan.config import filters, matchers, routing
from koukan.config.base import ConfigModel, HostEntry
from koukan.config.examples import EXAMPLES
from koukan.config.reference_tables import Tables, anchor

_HEAD = """\
# Filters, routing policies, matchers

<!-- made from koukan/config by `make generate`; do not edit -->

A chain (`endpoint[].chain` in router.yaml) is a list of filters, the last one a sink. Each stands in the list as
`{filter: NAME, ...}`. A transaction passes them in order, moment by moment: its reverse-path through all of them, then each
recipient, then the body. A filter may answer, change what goes on, or learn something that later filters, policies and
receivers can use. `koukan check FILE` says whether a configuration works; filters of your own are
[plug-ins](../plugins.md).
"""

_POLICIES = """\
The `policy` of a [router](#router): which recipients it takes and where they go. Written as `policy: {name: NAME, ...}`.
"""

_MATCHERS = """\
The `match` of a [policy_action](#policy_action) is a matcher, `{matcher: NAME, ...}`, or an expression of them: `{not: E}`,
`{any: [E, ...]}`, `{all: [E, ...]}`. Its answer is yes, no, or not known, as long as what it looks at has not arrived or its
filter has not run; a rule whose answer is not known is evaluated again with the next thing that arrives. With none at all a
rule always acts.
"""

_UNIONS: tuple[tuple[Any, str], ...] = (
    (matchers.MatchExpression, "[match expression](#match-expressions)"),
    (routing.Policy, "[routing policy](#routing-policies)"),
)


def filters_page() -> str:
    """The page, Markdown."""
    parts = [
        _HEAD,
        "## Filters\n",
        *(_section(model, "filter") for model in _filter_models()),
        "## Routing policies\n",
        _POLICIES,
        *(_section(model, "name") for model in _policy_models()),
        "## Match expressions\n",
        _MATCHERS,
        *(_section(model, "matcher") for model in _expression_models()),
        "## Shared stanzas\n",
        *(_section(model, "") for model in _stanzas()),
    ]
    return "\n".join(parts)


def _filter_models() -> Iterator[type[ConfigModel]]:
    yield from filters.BUILT_IN_FILTERS
    yield filters.PluginFilter


def _policy_models() -> Iterator[type[ConfigModel]]:
    yield from dict.fromkeys(routing.POLICY_NAMES.values())
    yield routing.PluginPolicy


def _expression_models() -> Iterator[type[ConfigModel]]:
    yield from (matchers.NotExpression, matchers.AnyExpression, matchers.AllExpression)
    yield from dict.fromkeys(matchers.MATCHER_NAMES.values())
    yield matchers.PluginMatcher


def _stanzas() -> Iterator[type[ConfigModel]]:
    yield from (routing.Destination, filters.DkimKey, HostEntry)


def _section(model: type[ConfigModel], discriminator: str) -> str:
    names = _names(model, discriminator)
    parts = [f"### {title(model)}\n", cleandoc(model.__doc__ or "") + "\n"]
    if len(names) > 1:
        parts.append("Also known as " + ", ".join(f"`{name}`" for name in names[1:]) + ".\n")
    parts += _TABLES.of(model, without=discriminator)
    if model in EXAMPLES:
        parts.append(f"```yaml\n{EXAMPLES[model].strip()}\n```\n")
    return "\n".join(parts)


def title(model: type[ConfigModel]) -> str:
    """The heading of a model's section."""
    fixed = {
        filters.PluginFilter: "Plug-in filters",
        routing.PluginPolicy: "Plug-in policies",
        matchers.PluginMatcher: "Plug-in matchers",
        routing.Destination: "Destination",
        filters.DkimKey: "Signing key",
        HostEntry: "Host",
        matchers.NotExpression: "not",
        matchers.AnyExpression: "any",
        matchers.AllExpression: "all",
    }
    if model in fixed:
        return fixed[model]
    name = next(names[0] for key in ("filter", "name", "matcher") if (names := _names(model, key)))
    if issubclass(model, routing.PolicyOptions):
        return f"policy {name}"
    return f"matcher {_short(model)}" if issubclass(model, matchers.MatcherOptions) else name


def _short(model: type[ConfigModel]) -> str:
    """The name without a class path, where a matcher has both."""
    return next(name for name in _names(model, "matcher") if "." not in name)


def _names(model: type[ConfigModel], discriminator: str) -> list[str]:
    """Every name that the model answers to, the one to use first."""
    info = model.model_fields.get(discriminator)
    names = [] if info is None or get_origin(info.annotation) is not Literal else list(get_args(info.annotation))
    return sorted(names, key=lambda name: "." in name)


def _words(annotation: Any) -> str | None:
    for union, words in _UNIONS:
        if annotation in (union, get_args(union)[0]):  # pydantic strips Annotated from the type of a field
            return words
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return f"[{title(annotation).lower()}](#{anchor(title(annotation))})"
    return None


_TABLES = Tables(_words)
