"""`python -m koukan_operator.crds DIRECTORY`: the CustomResourceDefinitions, made from the models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.model.resources import API_VERSION, Resource
from koukan_operator.rules import LIMITS, NAME_RULE, RULES, UNIONS, union_rules
from koukan_operator.structural import Schema, Structural

GROUP, VERSION = API_VERSION.split("/")
PLURALS = {KoukanRouter: "koukanrouters", KoukanGateway: "koukangateways", OutputChain: "outputchains"}
_SHORT_NAMES = {KoukanRouter: "kr", KoukanGateway: "kg", OutputChain: "oc"}

_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": {"type": "string", "maxLength": 316, "description": "What the condition is about, in CamelCase."},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
        "observedGeneration": {"type": "integer", "format": "int64", "description": "Generation that it is about."},
        "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When status changed last."},
        "reason": {"type": "string", "maxLength": 1024, "description": "Why, in one CamelCase word."},
        "message": {"type": "string", "maxLength": 32768, "description": "Why, and the next step, for people."},
    },
}
_STATUS: dict[str, Schema] = {
    "observedGeneration": {"type": "integer", "format": "int64", "description": "Generation that the status is about."},
    "conditions": {
        "type": "array",
        "items": _CONDITION,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "description": "Ready, Progressing, ConfigValid, ReferencesResolved; Accepted for chains.",
    },
}
_WORKLOAD_STATUS: dict[str, Schema] = {
    **_STATUS,
    "replicas": {"type": "integer", "format": "int32", "description": "Pods that there are."},
    "readyReplicas": {"type": "integer", "format": "int32", "description": "Pods that take traffic."},
    "selector": {"type": "string", "description": "Label selector of the pods."},
    "serviceUri": {"type": "string", "description": "Base URL of the REST API."},
}
_CHAIN_STATUS: dict[str, Schema] = {
    **_STATUS,
    "routers": {"type": "array", "items": {"type": "string"}, "description": "Routers that use the chain."},
}


def definition(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    workload = kind is not OutputChain
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(workload),
        "schema": {"openAPIV3Schema": _schema(kind, _WORKLOAD_STATUS if workload else _CHAIN_STATUS)},
    }
    if workload:
        version["subresources"]["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    plural = PLURALS[kind]
    names = {
        "kind": kind.KIND,
        "listKind": f"{kind.KIND}List",
        "plural": plural,
        "singular": kind.KIND.lower(),
        "shortNames": [_SHORT_NAMES[kind]],
        "categories": ["koukan"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def write(directory: Path) -> None:
    """One file a kind."""
    directory.mkdir(exist_ok=True)
    for kind, plural in PLURALS.items():
        text = yaml.dump(definition(kind), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
        head = "# Made from the models by `make generate`; change those.\n"
        (directory / f"{plural}.yaml").write_text(head + text, encoding="utf-8")


class _Plain(yaml.SafeDumper):
    """Without anchors: people read these files, and tools patch them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _schema(kind: type[Resource], status: dict[str, Schema]) -> Schema:
    root: Schema = {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(kind.model_fields["spec"].annotation),
            "status": {"type": "object", "description": "What the operator has found and done.", "properties": status},
        },
    }
    if kind is not OutputChain:
        root["x-kubernetes-validations"] = [NAME_RULE]
    return root


def _spec(model: Any) -> Schema:
    assert isinstance(model, type) and issubclass(model, BaseModel)
    schema = model.model_json_schema(by_alias=True)
    definitions = {**schema.pop("$defs", {}), model.__name__: schema}
    translation = Structural(definitions, UNIONS, LIMITS, RULES, union_rules)
    return translation.of({"$ref": f"#/$defs/{model.__name__}"})


def _columns(workload: bool) -> list[dict[str, Any]]:
    def condition(name: str, field: str, **more: Any) -> dict[str, Any]:
        return {"type": "string", "jsonPath": f'.status.conditions[?(@.type=="{name}")].{field}', **more}

    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    if not workload:
        return [
            {"name": "Accepted", **condition("Accepted", "status")},
            {"name": "Valid", **condition("ConfigValid", "status")},
            {"name": "Routers", "type": "string", "jsonPath": ".status.routers"},
            {"name": "Message", **condition("Accepted", "message", priority=1)},
            age,
        ]
    return [
        {"name": "Ready", **condition("Ready", "status")},
        {"name": "Reason", **condition("Ready", "reason")},
        {"name": "ReadyPods", "type": "integer", "jsonPath": ".status.readyReplicas"},
        {"name": "Pods", "type": "integer", "jsonPath": ".status.replicas"},
        {"name": "URI", "type": "string", "jsonPath": ".status.serviceUri", "priority": 1},
        {"name": "Message", **condition("Ready", "message", priority=1)},
        age,
    ]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
