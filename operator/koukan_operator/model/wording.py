"""Texts about configuration files in the words of resources."""

from __future__ import annotations

import re

from pydantic.alias_generators import to_camel

from koukan.config.filters import FILTER_NAMES
from koukan.config.matchers import MATCHER_NAMES
from koukan_operator.model.values import camel_case

#: the words that choose each built-in routing policy, by the name of its model
POLICIES = {
    "AddressListPolicy": ("address_list",),
    "DestDomainPolicy": ("dest_domain",),
    "HelloPolicy": ("hello", "hello_policy"),
}
POLICY_NAMES = frozenset(name for names in POLICIES.values() for name in names)

_WORD = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_ENUMERATED = re.compile(r"\b(?:[A-Z]+(?:_[A-Z]+)+|REJECT)\b")
#: they are called the same in both
_NAMES = {*FILTER_NAMES, *MATCHER_NAMES, *POLICY_NAMES}


def in_resource_words(text: str) -> str:
    """A message or description with keys and enumerations as they are written in resources."""
    text = text.replace("output chain (endpoint)", "OutputChain").replace("global.", "spec.")
    text = _ENUMERATED.sub(lambda found: camel_case(found[0]), text)
    return _WORD.sub(lambda found: found[0] if found[0] in _NAMES else to_camel(found[0]), text)
