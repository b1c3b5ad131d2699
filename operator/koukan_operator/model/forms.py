"""The stanzas of koukan.config in the spelling of resources.

A form is a subclass of the configuration model, so that its rules hold unchanged: keys become camelCase, seconds durations,
bytes quantities, enumerations CamelCase, files keys of Secrets. Nothing unknown is let in. `Annotated[Model, FORM]` in a
resource means: statically the configuration model, read and written in its form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    ConfigDict,
    GetCoreSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from koukan.config.base import ConfigModel
from koukan_operator.model.values import DURATION, QUANTITY, Reading, Writing, camel_case, enumeration

#: fields that name a filter, policy or matcher: names stay as they are
NAMES = frozenset({"filter", "matcher", "name"})
_UNITS: Mapping[object, tuple[Any, ...]] = {"s": DURATION, "bytes": QUANTITY}


class Form(ConfigModel):
    """A stanza as it stands in a resource. Subclasses in `special` say where it differs by more than spelling."""

    # built when first used: match expressions contain themselves, and `special` is not complete before
    model_config = ConfigDict(defer_build=True)

    @classmethod
    def from_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The form's fields of a configuration stanza."""
        return document

    @classmethod
    def to_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The configuration stanza of the form's fields."""
        return document

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        return cls.from_config(data) if isinstance(info.context, Reading) and isinstance(data, dict) else data

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        document = handler(self)
        return self.to_config(document) if isinstance(info.context, Writing) else document


class _FormOf:
    """Annotation: the configuration models inside are read and written in their forms."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if isinstance(source, type) and issubclass(source, ConfigModel):
            return handler(form_of(source))
        # Not generate_schema: the handler also applies what else stands at the field, such as lengths.
        return handler(_spelled(source))


FORM = _FormOf()

#: forms that differ by more than spelling, by configuration model; `special` fills it
SPECIAL: dict[type[ConfigModel], type[Form]] = {}
_made: dict[type[ConfigModel], type[ConfigModel]] = {}


def form_of(model: type[ConfigModel]) -> type[ConfigModel]:
    """The form of a configuration model."""
    if model not in _made:
        special = SPECIAL.get(model, Form)
        settled = frozenset(special.model_fields)
        _made[model] = create_model(
            model.__name__,
            __base__=(special, model),
            __module__=__name__,
            __doc__=model.__doc__,
            # deferred, because match expressions contain themselves
            __cls_kwargs__={
                "extra": "forbid",
                "populate_by_name": False,
                "defer_build": True,
                "alias_generator": to_camel,
            },
            **dict(_fields(model, settled)),
        )
    return _made[model]


def _fields(model: type[ConfigModel], settled: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        if name not in settled:
            yield name, (_spelled_field(name, info), _renamed(name, info))


def _renamed(name: str, info: FieldInfo) -> FieldInfo:
    alias = info.alias or to_camel(name)
    copy = info._copy()
    copy.alias = copy.validation_alias = copy.serialization_alias = alias
    copy.json_schema_extra = None
    return copy


def _spelled_field(name: str, info: FieldInfo) -> Any:
    annotation = info.annotation if name in NAMES else _spelled(info.annotation)
    unit = info.json_schema_extra.get("x-unit") if isinstance(info.json_schema_extra, dict) else None
    return annotation if unit is None else _with_unit(annotation, _UNITS[unit])


def _with_unit(annotation: Any, how: tuple[Any, ...]) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return reduce(or_, (a if a is NoneType else Annotated[a, *how] for a in get_args(annotation)))
    return Annotated[annotation, *how]


def _spelled(annotation: Any) -> Any:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _spelled_annotated(args[0], args[1:])
    if origin is Literal:
        return Annotated[annotation, *enumeration({camel_case(str(value)): value for value in args})]
    if origin in (Union, UnionType):
        return reduce(or_, map(_spelled, args))
    if origin is not None:
        return origin[tuple(map(_spelled, args))]
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return Annotated[annotation, FORM]
    return annotation


def _spelled_annotated(base: Any, metadata: tuple[Any, ...]) -> Any:
    out: Any = _spelled(base)
    for item in metadata:
        extra = item.json_schema_extra if isinstance(item, FieldInfo) else None
        unit = extra.get("x-unit") if isinstance(extra, dict) else None
        out = Annotated[out, item] if unit is None else Annotated[out, *item.metadata, *_UNITS[unit]]
    return out
