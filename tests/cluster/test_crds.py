"""The CRDs on a real API server: what it accepts, what it refuses, and what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.support import examples
from tests.support.commands import CommandFailed, get, kubectl
from tests.support.mail_resources import Document, chain, gateway, router
from tests.support.resource_cases import CASES, Case

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("definitions")]


def create(document: Document) -> str:
    """What the API server says of a resource that someone applies."""
    placed = {**document, "metadata": {**document["metadata"], "namespace": "default"}}
    try:
        kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(placed))
    except CommandFailed as error:
        return error.output
    return ""


def as_list(documents: Sequence[Document]) -> Document:
    return {"apiVersion": "v1", "kind": "List", "items": [*documents]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.document['kind']}: {case.name}")
def test_a_resource(case: Case) -> None:
    said = create(case.document)
    if case.api is None:
        assert said == ""
    else:
        assert case.api.lower() in said.lower()


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_applies(name: str, namespace: str) -> None:
    """Also in a namespace that admits nothing but the `restricted` level."""
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    documents = examples.documents(name, namespace)
    kubectl("apply", "--warnings-as-errors", "-f", "-", stdin=json.dumps(as_list(documents)))
    # Once more: nothing is rewritten by the API server that would be applied again and again.
    assert kubectl("diff", "-f", "-", stdin=json.dumps(as_list(documents))) == ""


def test_get_shows_what_people_ask_for_first(namespace: str) -> None:
    documents = (router(namespace=namespace), gateway(namespace=namespace), chain("news", namespace=namespace))
    kubectl("apply", "-f", "-", stdin=json.dumps(as_list(documents)))
    assert kubectl("-n", namespace, "get", "kr").split("\n")[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "READYPODS",
        "PODS",
        "AGE",
    ]
    assert kubectl("-n", namespace, "get", "kg", "-o", "name") == "koukangateway.koukan.io/edge\n"
    assert kubectl("-n", namespace, "get", "oc").split("\n")[0].split() == [
        "NAME",
        "ACCEPTED",
        "VALID",
        "ROUTERS",
        "AGE",
    ]
    assert len(kubectl("-n", namespace, "get", "koukan", "-o", "name").split()) == 3


def test_scale_changes_the_replicas(namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(router(namespace=namespace, replicas=1)))
    kubectl("-n", namespace, "scale", "koukanrouter", "mail", "--replicas=3")
    assert get("-n", namespace, "koukanrouter", "mail")["spec"]["replicas"] == 3


def test_defaults_are_not_written_into_resources(namespace: str) -> None:
    """So that a new version's defaults reach resources that said nothing."""
    kubectl("apply", "-f", "-", stdin=json.dumps(router(namespace=namespace)))
    assert get("-n", namespace, "koukanrouter", "mail")["spec"] == router()["spec"]


def test_explain_tells_units_and_defaults() -> None:
    text = " ".join(kubectl("explain", "outputchain.spec.outputHandler.retryParams.minAttemptTime").split())
    assert "Shortest wait between attempts. Default: 1m." in text
