"""How the values of router.yaml and gateway.yaml are written in resources: durations, quantities, enumerations, Secrets.

A value is held as koukan.config holds it. Which way it is read and written says the validation and serialization context:
`Reading` and `Writing` for the configuration files, none for resources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

#: seconds per unit, largest first
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
#: longest duration that is written: 99999h59m59s999ms, with room
DURATION_LENGTH = 32

_SUFFIXES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
QUANTITY_PATTERN = r"^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$"
_QUANTITY = re.compile(r"^(?P<number>[0-9]+)(?P<suffix>k|M|G|T|Ki|Mi|Gi|Ti)?$")

#: an absent bound, where a resource must say so: null cannot be applied
UNLIMITED = "Unlimited"


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration file is turned into resources; `secret` names the Secret and key that a file will come from."""

    secret: Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Writing:
    """Resources are turned into a configuration file; `file` is where a key of a Secret is mounted."""

    file: Callable[[str, str], str]


def parse_duration(text: str) -> float:
    """Seconds of "1h30m". Raises ValueError."""
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"must be a duration such as 30s, 5m, 24h or 1h30m, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest way to write it: 90 is "90s", 7200 is "2h"."""
    milliseconds = round(seconds * 1000)
    for unit, factor in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def parse_quantity(text: str) -> int:
    """Bytes of "32Mi". Raises ValueError."""
    found = _QUANTITY.match(text)
    if found is None:
        raise ValueError(f"must be a whole quantity of bytes such as 65536, 64Ki or 32Mi, not {text!r}")
    return int(found["number"]) * _SUFFIXES[found["suffix"] or ""]


def format_quantity(size: int) -> int | str:
    """With the largest binary suffix that leaves a whole number; below 1Ki the number itself."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _SUFFIXES[suffix] == 0:
            return f"{size // _SUFFIXES[suffix]}{suffix}"
    return size


def _read_duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(info.context, Reading):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a duration with a unit such as 30s, 5m or 24h, not {value!r}")
    return parse_duration(value)


def _write_duration(value: float, info: SerializationInfo) -> Any:
    if isinstance(info.context, Writing):
        return int(value) if value == int(value) else value
    return format_duration(value)


def _read_quantity(value: Any, info: ValidationInfo) -> Any:
    return parse_quantity(value) if isinstance(value, str) else value


def _write_quantity(value: int, info: SerializationInfo) -> Any:
    return value if isinstance(info.context, Writing) else format_quantity(value)


class _DurationSchema:
    """A string; `x-positive` where zero is no duration, which a CEL rule makes of it."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        positive = {"x-positive": True} if "exclusiveMinimum" in handler(schema) else {}
        return {"type": "string", "pattern": DURATION_PATTERN, "maxLength": DURATION_LENGTH, **positive}


DURATION = (BeforeValidator(_read_duration), PlainSerializer(_write_duration), _DurationSchema())
QUANTITY = (
    BeforeValidator(_read_quantity),
    PlainSerializer(_write_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": QUANTITY_PATTERN}),
)
Duration = Annotated[float, *DURATION]
Quantity = Annotated[int, Field(ge=0), *QUANTITY]


def _read_count(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        if not value.isdigit():
            raise ValueError(f"must be a number or {UNLIMITED}, not {value!r}")
        return int(value)
    return value


def _write_count(value: int, info: SerializationInfo) -> Any:
    return value


def _limit(
    read: Callable[[Any, ValidationInfo], Any], write: Callable[[Any, SerializationInfo], Any]
) -> tuple[Any, ...]:
    def read_limit(value: Any, info: ValidationInfo) -> Any:
        absent = value is None if isinstance(info.context, Reading) else value == UNLIMITED
        return None if absent else read(value, info)

    def write_limit(value: Any, info: SerializationInfo) -> Any:
        if value is None:
            return None if isinstance(info.context, Writing) else UNLIMITED
        return write(value, info)

    return BeforeValidator(read_limit), PlainSerializer(write_limit)


#: a duration or "Unlimited"
DurationLimit = Annotated[
    float | None,
    Field(ge=0),
    *_limit(_read_duration, _write_duration),
    WithJsonSchema({"type": "string", "pattern": rf"{DURATION_PATTERN}|^{UNLIMITED}$", "maxLength": DURATION_LENGTH}),
]
#: a positive number or "Unlimited"
CountLimit = Annotated[
    int | None,
    Field(ge=1),
    *_limit(_read_count, _write_count),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "minimum": 1, "pattern": rf"^([1-9][0-9]*|{UNLIMITED})$"}),
]


def camel_case(word: str) -> str:
    """`PER_RCPT`, `mail_from` → `PerRcpt`, `MailFrom`."""
    return "".join(part[:1].upper() + part[1:].lower() for part in word.split("_"))


def enumeration(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The annotation of an enumeration: names in resources, values in configuration files."""
    names = {value: name for name, value in values.items()}

    def read(value: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, Reading) or value is None:
            return value
        if value not in values:
            raise ValueError(f"must be one of {', '.join(values)}, not {value!r}")
        return values[value]

    def write(value: Any, info: SerializationInfo) -> Any:
        return value if isinstance(info.context, Writing) else names.get(value)

    schema = {"type": "string", "enum": list(values)}
    return BeforeValidator(read), PlainSerializer(write), WithJsonSchema(schema)
