"""The three kinds: what every one has, and how a document becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

#: API group and version
API_VERSION = "koukan.io/v1alpha1"


class Metadata(BaseModel):
    """The part of ObjectMeta that matters here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(BaseModel):
    """A custom resource."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    KIND: ClassVar[str]

    metadata: Metadata


class KoukanRouter(Resource):
    """Routers that share a database: Deployment, Services and all that belongs to them."""

    KIND: ClassVar[str] = "KoukanRouter"

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> KoukanRouter:
        """The resource of a document as the API server stores it. Raises InvalidResource."""
        raise NotImplementedError


class KoukanGateway(Resource):
    """SMTP servers and clients in front of routers."""

    KIND: ClassVar[str] = "KoukanGateway"

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> KoukanGateway:
        """The resource of a document as the API server stores it. Raises InvalidResource."""
        raise NotImplementedError


class OutputChain(Resource):
    """An output chain: filters in order, and what happens around its attempts."""

    KIND: ClassVar[str] = "OutputChain"

    @property
    def router_names(self) -> tuple[str, ...]:
        """Routers of this namespace that the chain attaches itself to (`spec.routerRefs`)."""
        raise NotImplementedError

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> OutputChain:
        """The resource of a document as the API server stores it. Raises InvalidResource."""
        raise NotImplementedError
