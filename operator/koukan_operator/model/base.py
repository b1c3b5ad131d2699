"""What every stanza of a resource shares: camelCase keys, nothing unknown."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from koukan.config.base import ConfigModel


class ResourceModel(BaseModel):
    """A stanza of a resource; the docstring under a field is its description in the CRD."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", use_attribute_docstrings=True, frozen=True)


def same(model: type[ConfigModel], name: str) -> Any:
    """The field of a configuration stanza: its default, bounds and description, to stand in a resource under its own type."""
    info = model.model_fields[name]._copy()
    info.json_schema_extra = None
    return info
