"""The chart's values, their schema and what is generated from them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from charts import generate

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "koukan"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def errors(values: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def groups(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every mapping whose keys the schema names, with those keys."""
    properties = schema.get("properties")
    if properties is None or path == "global":
        return
    yield path, set(properties)
    for key, child in properties.items():
        yield from groups(child, f"{path}.{key}" if path else key)


def at(path: str) -> dict[str, Any]:
    found: dict[str, Any] = VALUES
    for key in path.split(".") if path else ():
        found = found[key]
    return found


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_defaults_are_accepted() -> None:
    assert errors(VALUES) == []


@pytest.mark.parametrize(
    ("path", "keys"), list(groups(SCHEMA)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_value_of_the_schema_has_a_default_and_the_other_way_round(path: str, keys: set[str]) -> None:
    assert keys - {"global"} == set(at(path))


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"repository": "koukan-operator", "tag": "not a tag"}},
        {"image": {"repository": "Koukan"}},
        {"image": {"repository": "koukan", "digest": "sha256:12"}},
        {"image": {"repository": "koukan", "pullPolicy": "Sometimes"}},
        {"watchNamespaces": "mail"},
        {"watchNamespaces": ["Mail_1"]},
        {"watchNamespaces": ["mail", "mail"]},
        {"replicas": -1},
        {"replicas": "1"},
        {"crds": {"enable": True}},
        {"crds": {"keep": "yes"}},
        {"log": {"level": "verbose"}},
        {"metrics": {"port": 80}},
        {"metrics": {"podMonitor": {"interval": "often"}}},
        {"networkPolicy": {"apiServerPorts": []}},
        {"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}},
        {"podLabels": {"a": 1}},
        {"resources": {"limits": {"memory": "lots"}}},
        {"resources": {"limit": {"memory": "1Gi"}}},
        {"demo": {"postgresql": {"password": "a:b@c"}}},
        {"demo": {"enabled": "true"}},
        {"demo": {"postgresql": {"runAsUser": 0}}},
        {"demo": {"postgresql": {"storage": {"size": "big"}}}},
        {"extraEnv": [{"value": "without a name"}]},
        {"nosuchvalue": 1},
    ],
    ids=json.dumps,
)
def test_bad_values_are_refused(values: dict[str, Any]) -> None:
    assert errors(values)


@pytest.mark.parametrize(
    "values",
    [
        {"watchNamespaces": ["mail", "mail-staging"]},
        {"image": {"registry": "registry.example.com:5000/team", "repository": "koukan-operator", "tag": "1.2.3"}},
        {"image": {"repository": "a/b", "registry": "", "digest": f"sha256:{'0' * 64}"}},
        {"networkPolicy": {"apiServerCIDRs": ["192.0.2.1/32", "2001:db8::/64"]}},
        {"extraObjects": [{"kind": "ConfigMap"}, "kind: ConfigMap"]},
        {"global": {"anything": True}},
        {"replicas": 0},
        {"resources": {"requests": {"cpu": 0.5, "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "1G"}}},
    ],
    ids=json.dumps,
)
def test_good_values_are_accepted(values: dict[str, Any]) -> None:
    assert errors(values) == []


def test_what_is_generated_is_in_step() -> None:
    assert generate.out_of_step() == [], "run `make generate`"


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version


def test_a_comment_documents_the_key_below_it() -> None:
    found = generate.values("# +section=One\n\n# Says how\n# much.\nlevel: 3\ngroup:\n  # Deep.\n  inner: [a]\n")
    assert [(value.path, value.section, value.comment, value.default) for value in found] == [
        ("level", "One", "Says how\nmuch.", "3"),
        ("group.inner", "One", "Deep.", '["a"]'),
    ]


def test_a_key_without_a_comment_is_an_error() -> None:
    with pytest.raises(generate.Undocumented, match=r"values\.yaml:3: bare has no comment"):
        generate.values("# Said.\nsaid: 1\nbare: 2\n")


def test_every_value_is_in_the_readme() -> None:
    readme = (CHART / "README.md").read_text()
    missing = [
        value.path for value in generate.values(generate.VALUES.read_text()) if f"| `{value.path}` |" not in readme
    ]
    assert missing == []
