"""JSON Schema as pydantic writes it → structural schema as CustomResourceDefinitions want it.

Structural means: every node has one type, no references, no alternatives. So references are written out, the variants of a
union become one object with the keys of all (rules say which belong together), and recursion ends in a free-form object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koukan_operator.model.values import DURATION_PATTERN, camel_case, format_duration, format_quantity
from koukan_operator.model.wording import in_resource_words

Schema = dict[str, Any]

#: keywords that mean the same in both
_KEPT = ("type", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
         "maxProperties", "x-kubernetes-int-or-string")  # fmt: skip
#: bounds where the model has none, so that the cost of rules is bounded too
_MAX_LENGTH = 1024
_MAX_ITEMS = 256
_MAX_PROPERTIES = 64
#: match expressions within match expressions: rules (which cost) down to the first, the schema down to the second number;
#: the operator checks what is deeper
_RULED_NESTING = 1
_MAX_NESTING = 2
#: keys of objects in lists that are merged item by item, and unique
_LIST_KEY = "name"
_FREE_FORM: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class Union:
    """A union that `key` tells apart: its variants by definition name, the values of `key` for each."""

    key: str
    #: what a plug-in's variant is called; its `key` may be anything else
    plugin: str
    #: its variants contain it
    recursive: bool = False


@dataclass(slots=True)
class Structural:
    """The translation of one document."""

    definitions: Mapping[str, Schema]
    unions: Sequence[Union]
    #: bounds of lists that have none in the model, by the name of the definition
    limits: Mapping[str, int] = field(default_factory=dict)
    #: rules of an object, by the name of its definition
    rules: Mapping[str, Sequence[Schema]] = field(default_factory=dict)
    #: rules of a union: (the union, {definition: its schema}) → rules
    union_rules: Callable[[Union, Mapping[str, Schema]], list[Schema]] = lambda union, variants: []
    _nesting: int = 0

    def of(self, schema: Schema) -> Schema:
        """The structural schema."""
        if "$ref" in schema:
            return self._reference(schema)
        if "oneOf" in schema:
            return _described(self._union(schema["oneOf"]), schema)
        if "anyOf" in schema:
            return self._alternatives(schema)
        if schema.get("type") == "array":
            return _described(self._array(schema), schema)
        if schema.get("type") == "object":
            return _described(self._object(schema), schema)
        return self._scalar(schema)

    def _reference(self, schema: Schema) -> Schema:
        name = schema["$ref"].rpartition("/")[2]
        out = self.of(self._limited(name))
        if name in self.rules:
            out = {**out, "x-kubernetes-validations": [*out.get("x-kubernetes-validations", []), *self.rules[name]]}
        return _described(out, schema)

    def _limited(self, name: str) -> Schema:
        definition = self.definitions[name]
        if name not in self.limits:
            return definition
        limit = {"maxItems": self.limits[name]}
        return {
            **definition,
            "properties": {key: {**value, **limit} for key, value in definition["properties"].items()},
        }

    def _alternatives(self, schema: Schema) -> Schema:
        members = [member for member in schema["anyOf"] if member.get("type") != "null"]
        if all(member.get("type") == "string" for member in members) and len(members) > 1:
            return _described({"type": "string", "maxLength": _MAX_LENGTH}, schema)
        if len(members) != 1:
            raise ValueError(f"a structural schema has no alternatives: {schema}")
        return self.of({**members[0], **{key: value for key, value in schema.items() if key != "anyOf"}})

    def _union(self, members: Sequence[Schema]) -> Schema:
        names = [member["$ref"].rpartition("/")[2] for member in members]
        union = next(union for union in self.unions if union.plugin in names)
        if not union.recursive:
            return self._variants(union, names)
        if self._nesting > _MAX_NESTING:
            return dict(_FREE_FORM)
        self._nesting += 1
        out = self._variants(union, names)
        self._nesting -= 1
        if self._nesting > _RULED_NESTING:
            del out["x-kubernetes-validations"]
            out["properties"] = {key: _terse(value) for key, value in out["properties"].items()}
        return out

    def _variants(self, union: Union, names: Sequence[str]) -> Schema:
        variants = {name: self.of(self._limited(name)) for name in names}
        out: Schema = {"type": "object", "properties": _merged(variants)}
        required = set.intersection(*(set(variant.get("required", ())) for variant in variants.values()))
        if required:
            out["required"] = sorted(required)
        own = (rule for name in names for rule in self.rules.get(name, ()))
        return {**out, "x-kubernetes-validations": [*self.union_rules(union, variants), *own]}

    def _array(self, schema: Schema) -> Schema:
        items = self.of(schema["items"])
        out: Schema = {"type": "array", "items": items, "maxItems": schema.get("maxItems", _MAX_ITEMS)}
        if "minItems" in schema:
            out["minItems"] = schema["minItems"]
        if _LIST_KEY in items.get("required", ()):
            out |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [_LIST_KEY]}
        return out

    def _object(self, schema: Schema) -> Schema:
        if "properties" in schema:
            properties = {name: self.of(value) for name, value in schema["properties"].items()}
            out: Schema = {"type": "object", "properties": properties}
            if schema.get("required"):
                out["required"] = schema["required"]
            positive = [name for name, value in schema["properties"].items() if _is_positive(value)]
            if positive:
                out["x-kubernetes-validations"] = [_above_zero(name) for name in positive]
            return out
        values = schema.get("additionalProperties", True)
        if isinstance(values, dict):
            limit = schema.get("maxProperties", _MAX_PROPERTIES)
            return {"type": "object", "additionalProperties": self.of(values), "maxProperties": limit}
        # Models without a field: the filters that have no options.
        return {"type": "object", "properties": {}} if values is False else dict(_FREE_FORM)

    def _scalar(self, schema: Schema) -> Schema:
        out: Schema = {key: schema[key] for key in _KEPT if key in schema}
        if "const" in schema:
            out["enum"] = [schema["const"]]
        if "exclusiveMinimum" in schema:
            out |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
        if out.get("type") == "string" and "enum" not in out:
            out.setdefault("maxLength", _MAX_LENGTH)
        if out.get("type") == "integer":
            out["format"] = "int64"
        if out.get("x-kubernetes-int-or-string"):
            out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        return _described(out, schema)


def _described(out: Schema, schema: Schema) -> Schema:
    """With the description of the place, which says more than that of the type, and its default."""
    text = in_resource_words(" ".join(str(schema.get("description", out.get("description", ""))).split()))
    default = _default_text(schema, out)
    described = {key: value for key, value in out.items() if key != "description"}
    if text or default:
        described["description"] = f"{text} {default}".strip()
    return described


def _terse(schema: Schema) -> Schema:
    """Without descriptions, which stand further up already; a CRD must fit into an annotation of 256 KiB."""
    return {key: value for key, value in schema.items() if key != "description"}


def _default_text(schema: Schema, out: Schema) -> str:
    default = schema.get("default")
    if (
        default is None
        or default in ({}, [])
        or isinstance(default, dict)
        or "default" in schema.get("description", "")
    ):
        return ""
    if isinstance(default, bool):
        return f"Default: {str(default).lower()}."
    if str(out.get("pattern", "")).startswith(DURATION_PATTERN):
        return f"Default: {format_duration(default)}."
    if out.get("x-kubernetes-int-or-string") and isinstance(default, int):
        return f"Default: {format_quantity(default)}."
    if "enum" in out and default not in out["enum"]:
        return f"Default: {camel_case(default)}."
    return f"Default: {default}."


def _merged(variants: Mapping[str, Schema]) -> Schema:
    """The keys of all variants; the description of a key says what it is for each."""
    properties: dict[str, Schema] = {}
    notes: dict[str, dict[str, list[str]]] = {}
    for name, variant in variants.items():
        for key, schema in variant["properties"].items():
            description = schema.get("description", "")
            notes.setdefault(key, {}).setdefault(description, []).append(name)
            bare = {k: v for k, v in schema.items() if k != "description"}
            properties[key] = _common(properties[key], bare, key) if key in properties else bare
    for key, texts in notes.items():
        text = " ".join(text for text in texts if text)
        if text:
            properties[key]["description"] = text
    return properties


def _common(one: Schema, other: Schema, key: str) -> Schema:
    """The schema of a key that several variants have."""
    if one == other:
        return one
    if one.get("type") == other.get("type") == "string":
        # The key that tells variants apart: any value may come, since plug-ins have their own.
        words = [word for schema in (one, other) for word in schema.get("enum", ())]
        if "enum" in one and "enum" in other:
            return {"type": "string", "enum": list(dict.fromkeys(words))}
        return {"type": "string", "maxLength": 253}
    raise ValueError(f"{key} is {one} here and {other} there")


def _is_positive(schema: Schema) -> bool:
    return bool(schema.get("x-positive") or any(member.get("x-positive") for member in schema.get("anyOf", ())))


def _above_zero(name: str) -> Schema:
    return {
        "rule": f"!has(self.{name}) || duration(self.{name}) > duration('0s')",
        "message": f"{name} must be longer than 0s",
        "fieldPath": f".{name}",
    }
