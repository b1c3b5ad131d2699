"""The reference page of filters, routing policies and matchers, made from their option models.

`python -m koukan.config.reference docs/reference/filters.md` writes it (`make generate`); a test checks that it is in step.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from koukan.config import filters, matchers, routing
from koukan.config.base import ConfigModel, HostEntry
from koukan.config.examples import EXAMPLES

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

_SCALARS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "anything",
    IPv4Network: "network",
    IPv6Network: "network",
}
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
    rows = [_row(name, info) for name, info in model.model_fields.items() if name != discriminator]
    if rows:
        parts += ["| key | type | default | unit | meaning |", "|---|---|---|---|---|", *rows, ""]
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


def _row(name: str, info: FieldInfo) -> str:
    key, *others = _keys(name, info)
    meaning = " ".join((info.description or "").split())
    if others:
        meaning += " Also written " + ", ".join(f"`{other}`" for other in others) + "."
    cells = (f"`{key}`", _bounded(info.annotation, info.metadata), _default(info), _unit(info), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _unit(info: FieldInfo) -> str:
    """The unit of the value, or of what an optional value is when it is there."""
    for declared in (info, *_declared_in(info.annotation)):
        if isinstance(declared.json_schema_extra, dict) and "x-unit" in declared.json_schema_extra:
            return str(declared.json_schema_extra["x-unit"])
    return ""


def _declared_in(annotation: Any) -> Iterator[FieldInfo]:
    if get_origin(annotation) is Annotated:
        yield from (m for m in get_args(annotation)[1:] if isinstance(m, FieldInfo))
    elif get_origin(annotation) in (Union, UnionType):
        for alternative in get_args(annotation):
            yield from _declared_in(alternative)


def _keys(name: str, info: FieldInfo) -> list[str]:
    if isinstance(info.validation_alias, AliasChoices):
        return [str(choice) for choice in info.validation_alias.choices]
    return [info.alias or name]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return "" if value is None else f"`{json.dumps(value)}`"


def _bounded(annotation: Any, metadata: Iterable[Any]) -> str:
    kind, bounds = _type(annotation), {type(m): m for m in metadata}
    low, high = bounds.get(Ge), bounds.get(Le)
    if low is not None and high is not None:
        return f"{kind}, {low.ge} to {high.le}"
    return kind if low is None else f"{kind} ≥ {low.ge}"


def _type(annotation: Any) -> str:
    for union, words in _UNIONS:
        if annotation in (union, get_args(union)[0]):  # pydantic strips Annotated from the type of a field
            return words
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(arguments[0], [m for info in _declared_in(annotation) for m in info.metadata])
    if origin in (Union, UnionType):
        return _alternatives(arguments)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return "[" + ", ".join(_type(item) for item in arguments) + "]"
    if origin is dict:
        return "map"
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return f"[{title(annotation).lower()}](#{_anchor(title(annotation))})"
    raise TypeError(f"the reference page has no words for {annotation!r}")


def _alternatives(arguments: Iterable[Any]) -> str:
    """A union, without None: that a key may be left out is what its default says."""
    return " or ".join(dict.fromkeys(_type(a) for a in arguments if a is not NoneType))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-"))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(filters_page(), encoding="utf-8")
