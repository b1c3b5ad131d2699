"""References within the namespace, and files that come from Secrets."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo, ValidationInfo

from koukan_operator.model.base import ResourceModel
from koukan_operator.model.values import Reading, Writing

#: RFC 1123: what an object of Kubernetes may be called
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
#: what a key of a Secret or ConfigMap may be called
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class LocalRef(ResourceModel):
    """An object of this namespace."""

    name: ObjectName
    """Name of the object."""


class SecretKeyRef(ResourceModel):
    """A key of a Secret of this namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: DataKey
    """Key within it."""


def _read(value: Any, info: ValidationInfo) -> Any:
    return info.context.secret(value) if isinstance(info.context, Reading) and isinstance(value, str) else value


def _write(value: SecretKeyRef | None, info: SerializationInfo) -> Any:
    if value is None:
        return None
    if isinstance(info.context, Writing):
        return info.context.file(value.name, value.key)
    return {"name": value.name, "key": value.key}


#: what is a file in a configuration file and a key of a Secret in a resource
SecretFile = Annotated[SecretKeyRef, BeforeValidator(_read), PlainSerializer(_write)]


def secret_of(value: Any) -> SecretKeyRef | None:
    """The Secret behind a file option of a form, whose static type is that of the configuration file."""
    return cast("SecretKeyRef | None", value)
