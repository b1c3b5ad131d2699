"""What a key that does not belong was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from koukan.config import filters, matchers
from koukan.config.base import ConfigModel
from koukan.config.loader import UNKNOWN_KEY, Path_, Problem, suggest
from koukan_operator.model.chain import OutputChainSpec
from koukan_operator.model.forms import form_of
from koukan_operator.model.gateway import GatewaySpec
from koukan_operator.model.router import RouterSpec
from koukan_operator.model.wording import POLICY_NAMES


def explained(document: Mapping[str, Any], problem: Problem) -> Problem:
    """The problem; about an unknown key, with what would be right."""
    if problem.message != UNKNOWN_KEY:
        return problem
    key, holder = str(problem.path[-1]), _at(document, problem.path[:-1])
    return Problem(problem.path, f"unknown key{_plugin(holder) or _elsewhere(key)}")


def _elsewhere(key: str) -> str:
    return " here, though not elsewhere" if key in _vocabulary() else suggest(key, _vocabulary())


def _plugin(holder: Any) -> str:
    """Where options of plug-ins go, when the holder names no built-in."""
    if not isinstance(holder, dict):
        return ""
    for kind, known in (("filter", filters.FILTER_NAMES), ("matcher", matchers.MATCHER_NAMES)):
        name = holder.get(kind)
        if name is not None and name not in known:
            return f"; {name!r} is no built-in {kind}{suggest(name, known)}, and options of a plug-in stand under `options`"
    if "name" in holder and "destination" in holder and holder["name"] not in POLICY_NAMES:
        return f"; {holder['name']!r} is no built-in policy, and options of a plug-in stand under `options`"
    return ""


def _at(document: Any, path: Path_) -> Any:
    for step in path:
        document = document[step]
    return document


@cache
def _vocabulary() -> tuple[str, ...]:
    """Every key that may stand in some resource."""
    words: set[str] = set()
    seen: set[type[BaseModel]] = set()
    for spec in (RouterSpec, GatewaySpec, OutputChainSpec):
        words.update(_words(spec, seen))
    return tuple(sorted(words))


def _words(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    shown = form_of(model) if issubclass(model, ConfigModel) else model
    for name, info in shown.model_fields.items():
        yield info.alias or name
        for inner in _models(info.annotation):
            yield from _words(inner, seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
