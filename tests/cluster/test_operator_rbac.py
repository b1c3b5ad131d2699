"""The operator with the chart's namespaced role and nothing else: enough for everything that it does, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.cluster import NotFound
from koukan_operator.kinds import Key

from tests.support.commands import CommandFailed, helm, kubectl
from tests.support.mail_resources import as_yaml, chain, gateway, router, secret
from tests.support.operator_process import eventually, kubeconfig, operator

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
RELEASE = "rbac"
ACCOUNT = "rbac-koukan"
#: served only where cert-manager and the Prometheus operator are
OPTIONAL = {"certificates", "podmonitors", "servicemonitors"}
#: what must not be allowed, each for a reason of its own
FORBIDDEN = [
    ("create", "secrets"),
    ("patch", "secrets"),
    ("delete", "secrets"),
    ("update", "deployments"),
    ("deletecollection", "deployments"),
    ("get", "pods"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("create", "koukanrouters"),
    ("patch", "koukanrouters"),
    ("delete", "koukanrouters"),
    ("patch", "outputchains"),
    ("update", "koukanrouters/finalizers"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "serviceaccounts"),
    ("list", "events"),
    ("delete", "events"),
    ("list", "leases.coordination.k8s.io"),
]


def rules_of_the_page() -> dict[str, set[str]]:
    """Resource (`deployments.apps`) to verbs, from the first table of docs/operator-rbac.md."""
    text = (ROOT / "docs" / "operator-rbac.md").read_text(encoding="utf-8")
    served = text.partition("## In the namespaces")[2].partition("\n## ")[0]
    rules = {}
    for line in served.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"[a-z/]+", cells[1]):
            rules[cells[1] + (f".{cells[0]}" if cells[0] else "")] = set(cells[2].split(", "))
    return rules


def rendered(namespace: str) -> list[dict[str, Any]]:
    """The chart's service account, roles and bindings for an operator of this namespace alone."""
    text = helm(
        "template", RELEASE, str(ROOT / "charts" / "koukan"), "--namespace", namespace,
        "--set", f"watchNamespaces={{{namespace}}}",
        "--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml",
    )  # fmt: skip
    return [document for document in yaml.safe_load_all(text) if document]


def allowed(verb: str, resource: str, namespace: str, account_of: str) -> bool:
    who = f"--as=system:serviceaccount:{account_of}:{ACCOUNT}"
    plain, _, sub = resource.partition("/")
    subresource = [f"--subresource={sub}"] if sub else []
    try:
        return kubectl("auth", "can-i", verb, plain, *subresource, who, "--namespace", namespace).strip() == "yes"
    except CommandFailed as error:
        return not error.output.strip().endswith("no")


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesCluster]:
    found = KubernetesCluster(load_configuration(in_cluster=False))
    yield found
    await found.close()


@pytest.fixture
def granted(namespace: str) -> str:
    """A namespace with the chart's account and roles."""
    documents = rendered(namespace)
    assert {document["kind"] for document in documents} == {"ServiceAccount", "Role", "RoleBinding"}
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))
    return namespace


def test_the_page_and_the_chart_say_the_same(namespace: str) -> None:
    role = next(d for d in rendered(namespace) if d["kind"] == "Role" and not d["metadata"]["name"].endswith("-leader"))
    granted: dict[str, set[str]] = {}
    for rule in role["rules"]:
        assert "resourceNames" not in rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted[resource + (f".{group}" if group else "")] = set(rule["verbs"])
    assert granted == rules_of_the_page()


def test_what_the_page_lists_is_allowed_here_and_nowhere_else(granted: str) -> None:
    for name, verbs in rules_of_the_page().items():
        resource, _, group = name.partition(".")
        if resource in OPTIONAL:
            continue
        plain, _, sub = resource.partition("/")
        full = f"{plain}.{group}" if group else plain
        full = f"{full}/{sub}" if sub else full
        for verb in sorted(verbs):
            assert allowed(verb, full, granted, granted), (verb, full)
            assert not allowed(verb, full, "default", granted), (verb, full)


@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN)
def test_what_it_does_not_need_is_forbidden(verb: str, resource: str, granted: str) -> None:
    assert not allowed(verb, resource, granted, granted)


async def test_it_is_enough_and_everything_of_it_is_used(
    cluster: KubernetesCluster, granted: str, tmp_path: Path
) -> None:
    namespace = granted
    token = kubectl("create", "token", ACCOUNT, "--namespace", namespace).strip()

    def as_account(_: dict[str, Any], user: dict[str, Any]) -> None:
        user.clear()
        user["token"] = token

    config = str(kubeconfig(tmp_path / "kubeconfig", as_account))
    lease = f"{namespace}/{ACCOUNT}"
    arguments = ("--namespace", namespace, "--lease", lease)

    def write(*documents: dict[str, Any]) -> None:
        placed = [{**d, "metadata": {**d["metadata"], "namespace": namespace}} for d in documents]
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=as_yaml(*placed))

    async def is_there(kind: str, name: str) -> bool:
        try:
            await cluster.get(Key(kind, namespace, name))
        except NotFound:
            return False
        return True

    async def is_gone(kind: str, name: str) -> bool:
        return not await is_there(kind, name)

    async with operator(tmp_path / "operator.log", *arguments, KUBECONFIG=config) as process:
        scaled = router(chains=("a",), autoscaling={"minReplicas": 1, "maxReplicas": 3})
        write(secret(), chain("a"), scaled, gateway())
        await eventually(lambda: is_there("HorizontalPodAutoscaler", "mail"))
        await eventually(lambda: is_there("Deployment", "edge"))
        write(router(chains=("a",), networkPolicy={"enabled": False}))
        await eventually(lambda: is_gone("HorizontalPodAutoscaler", "mail"))
        write(router(chains=("absent",)))

        async def reported() -> bool:
            found = await cluster.get(Key("KoukanRouter", namespace, "mail"))
            conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
            return conditions["ReferencesResolved"] == "False"

        await eventually(reported)
        samples = await process.metrics()
        log = process.log
    assert "orbidden" not in log
    assert "Traceback" not in log
    calls = set()
    for name in samples:
        found = re.match(r'koukan_operator_api_calls_total{method="(\w+)",resource="([\w/]+)"}', name)
        if found:
            calls.add((found.group(1), found.group(2)))
    for name, verbs in rules_of_the_page().items():
        resource = name.partition(".")[0]
        if resource not in OPTIONAL:
            assert {("PATCH", resource), ("POST", resource)} & calls or "patch" not in verbs, resource
            assert ("GET", resource) in calls or "list" not in verbs, resource
    written = {resource for method, resource in calls if method in ("PATCH", "POST", "PUT", "DELETE")}
    assert written <= {name.partition(".")[0] for name in rules_of_the_page()} | {"leases"}
    events = json.loads(kubectl("get", "events", "--namespace", namespace, "--output=json"))["items"]
    assert any(event["reportingComponent"] == "koukan-operator" for event in events)
    leader = await cluster.get(Key("Lease", namespace, ACCOUNT))
    assert leader["spec"]["holderIdentity"] == ""
