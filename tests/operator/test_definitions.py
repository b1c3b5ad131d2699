"""The CRDs as files: in step with the models, structural, bounded, described. What the API server says is in tests/cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from koukan_operator import crds
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.model.wording import POLICY_NAMES
from koukan_operator.structural import Structural

from koukan.config.filters import FILTER_NAMES
from koukan.config.matchers import MATCHER_NAMES

ROOT = Path(__file__).parents[2]
KINDS = (KoukanRouter, KoukanGateway, OutputChain)
#: an annotation of `kubectl apply` holds the whole object
MAX_SIZE = 256 * 1024


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every node of a schema with its path."""
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def spec_of(kind: type) -> Any:
    version = crds.definition(kind)["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_the_files_are_in_step_with_the_models(tmp_path: Path) -> None:
    """When this fails: make generate."""
    crds.write(tmp_path)
    for path in tmp_path.iterdir():
        assert (ROOT / "crds" / path.name).read_text() == path.read_text()
    assert len(list(tmp_path.iterdir())) == len(list((ROOT / "crds").iterdir()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_is_structural(kind: type) -> None:
    for path, node in nodes(spec_of(kind)):
        free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or free, path
        assert not node.keys() & {"$ref", "oneOf", "allOf", "not", "title", "default", "const", "x-positive"}, path
        assert "anyOf" not in node or node.get("x-kubernetes-int-or-string"), path


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_bounded(kind: type) -> None:
    for path, node in nodes(spec_of(kind)):
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        elif node.get("type") == "array":
            assert "maxItems" in node, path
        elif "additionalProperties" in node:
            assert "maxProperties" in node, path


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_described(kind: type) -> None:
    named = [(path, node) for path, node in nodes(spec_of(kind)) if path and not path.endswith("[]")]
    # A discriminator needs no description, and below a second expression they would only repeat themselves.
    nested = {path for path, _ in named if len(re.findall(r"\.(match|any|all|not)\b", path)) > 2}
    silent = {path for path, node in named if "description" not in node} - nested
    assert {path for path in silent if path.rpartition(".")[2] not in ("filter", "matcher", "name")} == set()


@pytest.mark.parametrize("kind", KINDS)
def test_rules_have_messages_that_say_something(kind: type) -> None:
    rules = [rule for _, node in nodes(spec_of(kind)) for rule in node.get("x-kubernetes-validations", ())]
    assert rules
    for rule in rules:
        assert len(rule["message"].split()) >= 3, rule


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_fits_into_an_annotation(kind: type) -> None:
    assert len(json.dumps(crds.definition(kind))) < MAX_SIZE


def test_descriptions_have_units_and_defaults() -> None:
    router = spec_of(KoukanRouter)["properties"]
    assert router["drainTimeout"]["description"].endswith("Default: 1m.")
    assert router["maxMessageSize"]["description"].endswith("Default: 100Mi.")
    listener = spec_of(KoukanGateway)["properties"]["listeners"]["items"]["properties"]
    assert listener["limits"]["properties"]["maxMessageSize"]["description"].endswith("Default: 32Mi.")
    assert router["dequeue"]["description"].endswith("Default: true.")
    hosts = spec_of(KoukanGateway)["properties"]["smtpOutput"]["properties"]["hosts"]["items"]["properties"]
    assert hosts["tls"]["properties"]["mode"]["description"].endswith("Default: May.")


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_speak_of_resources(kind: type) -> None:
    """Not of the keys and enumerations of router.yaml, which the descriptions come from."""
    names = {*FILTER_NAMES, *MATCHER_NAMES, *POLICY_NAMES}
    for path, node in nodes(spec_of(kind)):
        words = re.findall(r"\b\w+_\w+\b|\bREJECT\b|\(`?endpoint`?\)|[Tt]he default is", node.get("description", ""))
        assert set(words) <= names, path


def test_names_and_subresources() -> None:
    router, gateway, chain = (crds.definition(kind)["spec"] for kind in KINDS)
    assert [spec["names"]["shortNames"] for spec in (router, gateway, chain)] == [["kr"], ["kg"], ["oc"]]
    assert all(spec["names"]["categories"] == ["koukan"] for spec in (router, gateway, chain))
    assert router["versions"][0]["subresources"]["scale"]["labelSelectorPath"] == ".status.selector"
    assert "scale" not in chain["versions"][0]["subresources"]
    assert chain["versions"][0]["subresources"] == {"status": {}}


def test_alternatives_that_no_crd_can_express_are_refused() -> None:
    with pytest.raises(ValueError, match="has no alternatives"):
        Structural({}, ()).of({"anyOf": [{"type": "string"}, {"type": "integer"}]})


def test_yaml_has_no_anchors() -> None:
    for path in (ROOT / "crds").iterdir():
        text = path.read_text()
        assert "&id" not in text
        assert yaml.safe_load(text)["spec"]["group"] == "koukan.io"
