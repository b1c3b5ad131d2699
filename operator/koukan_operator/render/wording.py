"""Problems of router.yaml and gateway.yaml in the words and paths of the resources that they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic.alias_generators import to_camel

from koukan.config.filters import FILTER_NAMES
from koukan.config.loader import Path_, Problem, dotted
from koukan.config.matchers import MATCHER_NAMES
from koukan_operator.model.values import camel_case
from koukan_operator.render.rendered import ConfigProblem

#: what a key of a configuration file is called in a resource, where it is not simply camelCase
_STANZAS = {"sender": "senders", "rest_endpoint": "restEndpoints", "global": ""}
_KEYS = {"key": "keySecretRef"}
_WORD = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_ENUMERATED = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
_NAMES = {*FILTER_NAMES, *MATCHER_NAMES, "dest_domain"}


def in_resource(problem: Problem, origins: Mapping[Path_, str]) -> ConfigProblem:
    """The problem where its author can mend it."""
    path = problem.path
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return ConfigProblem(_joined(origins[path[:length]], path[length:]), _message(problem.message))
    first = _STANZAS.get(str(path[0]), _key(path[0]))
    return ConfigProblem(_joined("spec", (*([first] if first else []), *path[1:])), _message(problem.message))


def _joined(origin: str, rest: Path_) -> str:
    below = dotted(tuple(_key(step) for step in rest)) if rest else ""
    return f"{origin}{'' if not below or below.startswith('[') else '.'}{below}"


def _key(step: str | int) -> str | int:
    return step if isinstance(step, int) else _KEYS.get(step, to_camel(step))


def _message(text: str) -> str:
    text = text.replace("output chain (endpoint)", "OutputChain").replace("global.", "spec.")
    text = _ENUMERATED.sub(lambda found: camel_case(found[0]), text)
    return _WORD.sub(lambda found: found[0] if found[0] in _NAMES else to_camel(found[0]), text)
