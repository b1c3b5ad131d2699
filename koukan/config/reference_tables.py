"""Tables of keys for the reference pages: type, default, unit and meaning of each, from the models themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from koukan.config.base import ConfigModel
from koukan.model import HostPort

_SCALARS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "anything",
    IPv4Network: "network",
    IPv6Network: "network",
    HostPort: "`[host, port]`",
}


@dataclass(frozen=True)
class Tables:
    """The tables of one page."""

    #: what the page calls a model or a union that is explained elsewhere, with a link; None: that has no name of its own
    words: Callable[[Any], str | None]

    def of(self, model: type[ConfigModel], *, without: str = "") -> list[str]:
        """The lines of a model's table; none when it has no keys but `without`."""
        rows = [self._row(name, info) for name, info in model.model_fields.items() if name != without]
        return ["| key | type | default | unit | meaning |", "|---|---|---|---|---|", *rows, ""] if rows else []

    def _row(self, name: str, info: FieldInfo) -> str:
        key, *others = _keys(name, info)
        meaning = " ".join((info.description or "").split())
        if others:
            meaning += " Also written " + ", ".join(f"`{other}`" for other in others) + "."
        cells = (f"`{key}`", self._bounded(info.annotation, info.metadata), _default(info), _unit(info), meaning)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def _bounded(self, annotation: Any, metadata: Iterable[Any]) -> str:
        kind, bounds = self._type(annotation), {type(m): m for m in metadata}
        if MinLen in bounds:
            return f"{kind}, at least {bounds[MinLen].min_length}"
        if Gt in bounds:
            return f"{kind} > {bounds[Gt].gt}"
        low, high = bounds.get(Ge), bounds.get(Le)
        if low is not None and high is not None:
            return f"{kind}, {low.ge} to {high.le}"
        return kind if low is None else f"{kind} ≥ {low.ge}"

    def _type(self, annotation: Any) -> str:
        words = self.words(annotation)
        if words is not None:
            return words
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._bounded(arguments[0], [m for info in _declared_in(annotation) for m in info.metadata])
        if origin in (Union, UnionType):
            return self._alternatives(arguments)
        if origin is Literal:
            return " or ".join(f"`{value}`" for value in arguments)
        if origin is list:
            return f"list of {self._type(arguments[0])}"
        if origin is tuple:
            return "[" + ", ".join(self._type(item) for item in arguments) + "]"
        if origin is dict:
            return "map" if arguments[1] is Any else f"map of {self._type(arguments[1])}"
        raise TypeError(f"the reference page has no words for {annotation!r}")

    def _alternatives(self, arguments: Iterable[Any]) -> str:
        """A union, without None: that a key may be left out is what its default says."""
        return " or ".join(dict.fromkeys(self._type(a) for a in arguments if a is not NoneType))


def anchor(heading: str) -> str:
    """What a link to a heading ends in."""
    return re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-"))


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
    """As it would be written; nothing for a stanza, whose keys have defaults of their own."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return "" if value is None or isinstance(value, ConfigModel) else f"`{json.dumps(value)}`"
