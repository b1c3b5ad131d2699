"""Problems of router.yaml and gateway.yaml in the words and paths of the resources that they come from."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.alias_generators import to_camel

from koukan.config.loader import Path_, Problem, dotted
from koukan_operator.model.wording import in_resource_words
from koukan_operator.render.rendered import ConfigProblem

#: what a key of a configuration file is called in a resource, where it is not simply camelCase
_STANZAS = {"sender": "senders", "rest_endpoint": "restEndpoints", "global": ""}
_KEYS = {"key": "keySecretRef"}


def in_resource(problem: Problem, origins: Mapping[Path_, str]) -> ConfigProblem:
    """The problem where its author can mend it."""
    path = problem.path
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return ConfigProblem(_joined(origins[path[:length]], path[length:]), in_resource_words(problem.message))
    first = _STANZAS.get(str(path[0]), _key(path[0]))
    return ConfigProblem(_joined("spec", (*([first] if first else []), *path[1:])), in_resource_words(problem.message))


def _joined(origin: str, rest: Path_) -> str:
    below = dotted(tuple(_key(step) for step in rest)) if rest else ""
    return f"{origin}{'' if not below or below.startswith('[') else '.'}{below}"


def _key(step: str | int) -> str | int:
    return step if isinstance(step, int) else _KEYS.get(step, to_camel(step))
