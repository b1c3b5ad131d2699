"""The three kinds: what every one has, and how a document becomes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from koukan.config.loader import Problem, dotted, validation_problems
from koukan_operator.errors import InvalidResource
from koukan_operator.model.chain import OutputChainSpec
from koukan_operator.model.gateway import GatewaySpec
from koukan_operator.model.router import RouterSpec
from koukan_operator.model.slips import explained

#: API group and version
API_VERSION = "koukan.io/v1alpha1"


class Metadata(BaseModel):
    """The part of ObjectMeta that matters here."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)

    name: str = Field(min_length=1, max_length=253)
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(BaseModel):
    """A custom resource."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)

    KIND: ClassVar[str]

    metadata: Metadata

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """The resource of a document as the API server stores it. Raises InvalidResource."""
        if document.get("apiVersion") != API_VERSION or document.get("kind") != cls.KIND:
            found = f"{document.get('apiVersion')} {document.get('kind')}"
            raise InvalidResource(f"apiVersion and kind must be {API_VERSION} {cls.KIND}, not {found}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = (explained(document, problem) for problem in validation_problems(document, error))
            raise InvalidResource("\n".join(map(_line, problems))) from None


def _line(problem: Problem) -> str:
    return f"{dotted(problem.path)}: {problem.message}"


def _service_name(metadata: Metadata) -> Metadata:
    if not _SERVICE_NAME.match(metadata.name):
        raise ValueError(
            "Services are named after it: at most 50 lower-case letters, digits and hyphens, the first one a letter, "
            f"not {metadata.name!r}"
        )
    return metadata


#: names of what Services are made of; the longest that is derived adds 13 characters
_SERVICE_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$")
WorkloadMetadata = Annotated[Metadata, AfterValidator(_service_name)]


class KoukanRouter(Resource):
    """Routers that share a database: Deployment, Services and all that belongs to them."""

    KIND: ClassVar[str] = "KoukanRouter"

    metadata: WorkloadMetadata
    spec: RouterSpec


class KoukanGateway(Resource):
    """SMTP servers and clients in front of routers."""

    KIND: ClassVar[str] = "KoukanGateway"

    metadata: WorkloadMetadata
    spec: GatewaySpec


class OutputChain(Resource):
    """An output chain: filters in order, and what happens around its attempts."""

    KIND: ClassVar[str] = "OutputChain"

    spec: OutputChainSpec

    @property
    def router_names(self) -> tuple[str, ...]:
        """Routers of this namespace that the chain attaches itself to (`spec.routerRefs`)."""
        return tuple(ref.name for ref in self.spec.router_refs)
