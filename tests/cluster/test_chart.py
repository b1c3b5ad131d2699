"""The chart as Helm renders, refuses, installs, upgrades and uninstalls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import CommandFailed, get, helm, kubectl

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CHART = str(ROOT / "charts" / "koukan")
CRDS = ["koukangateways.koukan.io", "koukanrouters.koukan.io", "outputchains.koukan.io"]
RESOURCES = "koukanrouters,koukangateways,outputchains"
NAMESPACE = "koukan-chart"

#: two of everything that a value can hold, so that no template is left out
EVERYTHING: dict[str, Any] = {
    "watchNamespaces": [NAMESPACE, "staging"],
    "clusterDomain": "cluster.example",
    "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    "image": {"registry": "r.example", "repository": "op", "digest": f"sha256:{'1' * 64}", "pullPolicy": "Always"},
    "koukanImage": {"registry": "", "repository": "team/koukan", "tag": "2", "pullPolicy": "Never"},
    "commonLabels": {"team": "mail"},
    "log": {"level": "debug", "format": "text"},
    "extraArgs": ["--extra=1", "--extra=2"],
    "extraEnv": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "extraVolumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}],
    "deploymentAnnotations": {"a": "1"},
    "podAnnotations": {"b": "2"},
    "podLabels": {"c": "3"},
    "nodeSelector": {"disk": "ssd"},
    "affinity": {"nodeAffinity": {}},
    "tolerations": [{"key": "mail", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    ],
    "priorityClassName": "system-cluster-critical",
    "serviceAccount": {"name": "mail-operator", "annotations": {"d": "4"}},
    "metrics": {
        "port": 9090,
        "service": {"annotations": {"e": "5"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "networkPolicy": {
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"monitoring": "yes"}}}],
        "apiServerCIDRs": ["192.0.2.1/32"],
    },
    "extraObjects": [
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ include \"koukan.fullname\" . }}-extra'}",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}},
    ],
    "demo": {"enabled": True},
}


def render(values: dict[str, Any] | None = None, release: str = "koukan") -> dict[tuple[str, str], Any]:
    """The manifests by kind and name; in several namespaces, by `namespace/name`."""
    text = helm("template", release, CHART, "--namespace", NAMESPACE, "--values=-", stdin=json.dumps(values or {}))
    found = {}
    for document in yaml.safe_load_all(text):
        namespace = document["metadata"].get("namespace", NAMESPACE)
        name = document["metadata"]["name"]
        key = (document["kind"], name if namespace == NAMESPACE else f"{namespace}/{name}")
        assert key not in found
        found[key] = document
    return found


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return only


@pytest.mark.parametrize(
    "values", [{}, {"demo": {"enabled": True}}, EVERYTHING], ids=["defaults", "demo", "everything"]
)
def test_lint(values: dict[str, Any]) -> None:
    helm("lint", "--strict", CHART, "--values=-", stdin=json.dumps(values))


def test_everything_that_a_value_says_is_there() -> None:
    found = render(EVERYTHING)
    deployment = found["Deployment", "koukan"]
    operator, pod = container(deployment), deployment["spec"]["template"]
    assert operator["image"] == f"r.example/op@sha256:{'1' * 64}"
    assert operator["imagePullPolicy"] == "Always"
    assert operator["args"] == [
        "run",
        "--image=team/koukan:2",
        "--image-pull-policy=Never",
        "--image-pull-secret=registry",
        "--image-pull-secret=mirror",
        "--listen=0.0.0.0:9090",
        f"--lease={NAMESPACE}/koukan",
        "--cluster-domain=cluster.example",
        f"--namespace={NAMESPACE}",
        "--namespace=staging",
        "--log-level=debug",
        "--log-format=text",
        "--extra=1",
        "--extra=2",
    ]
    assert [variable["name"] for variable in operator["env"][-2:]] == ["A", "B"]
    assert [mount["name"] for mount in operator["volumeMounts"]] == ["tmp", "v", "w"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp", "v", "w"]
    assert operator["ports"] == [{"name": "metrics", "containerPort": 9090}]
    assert deployment["metadata"]["annotations"] == {"a": "1"}
    assert pod["metadata"]["annotations"]["b"] == "2"
    assert {"team": "mail", "c": "3"}.items() <= pod["metadata"]["labels"].items()
    for key in ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName"):
        assert pod["spec"][key] == EVERYTHING[key]
    assert pod["spec"]["serviceAccountName"] == "mail-operator"
    assert found["ServiceAccount", "mail-operator"]["metadata"]["annotations"] == {"d": "4"}
    assert found["Service", "koukan-metrics"]["metadata"]["annotations"] == {"e": "5"}
    assert found["PodMonitor", "koukan"]["metadata"]["labels"]["release"] == "prometheus"
    policy = found["NetworkPolicy", "koukan"]["spec"]
    assert policy["ingress"][0]["from"] == EVERYTHING["networkPolicy"]["metricsFrom"]
    assert policy["egress"][1]["to"] == [{"ipBlock": {"cidr": "192.0.2.1/32"}}]
    assert {("ConfigMap", "koukan-extra"), ("ConfigMap", "plain")} <= set(found)


def test_every_object_has_the_common_labels() -> None:
    extra = {("ConfigMap", "koukan-extra"), ("ConfigMap", "plain")}
    for key, document in render(EVERYTHING).items():
        if key not in extra:
            assert document["metadata"]["labels"]["team"] == "mail", key
            assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "koukan", key


@pytest.mark.parametrize(
    "values", [{}, {"demo": {"enabled": True}}, EVERYTHING], ids=["defaults", "demo", "everything"]
)
def test_every_pod_is_admitted_by_the_restricted_level(values: dict[str, Any]) -> None:
    pods = 0
    for document in render(values).values():
        pod = (
            document["spec"] if document["kind"] == "Pod" else document.get("spec", {}).get("template", {}).get("spec")
        )
        if document["kind"] not in ("Pod", "Deployment", "StatefulSet", "Job"):
            continue
        pods += 1
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in each["resources"]["limits"]
    assert pods >= 2


def test_roles_shrink_with_the_namespaces() -> None:
    everywhere, somewhere = render(), render({"watchNamespaces": ["mail", "staging"]})
    name = f"{NAMESPACE}:koukan"
    assert ("ClusterRole", name) in everywhere
    assert ("ClusterRoleBinding", name) in everywhere
    assert {key for key in somewhere if key[0].startswith("ClusterRole")} == {
        ("ClusterRole", f"{name}:view"),
        ("ClusterRole", f"{name}:edit"),
    }
    for namespace in ("mail", "staging"):
        assert somewhere["Role", f"{namespace}/{name}"]["rules"] == everywhere["ClusterRole", name]["rules"]
        subject = somewhere["RoleBinding", f"{namespace}/{name}"]["subjects"]
        assert subject == [{"kind": "ServiceAccount", "name": "koukan", "namespace": NAMESPACE}]


def test_no_role_without_rbac() -> None:
    found = render({"rbac": {"create": False, "aggregateClusterRoles": False}})
    assert not [key for key in found if "Role" in key[0]]


def test_definitions_are_those_of_the_repository() -> None:
    found = render()
    originals = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert sorted(original["metadata"]["name"] for original in originals) == CRDS
    for original in originals:
        crd = found["CustomResourceDefinition", original["metadata"]["name"]]
        assert crd["spec"] == original["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_packaged_chart_is_the_same(tmp_path: Path) -> None:
    helm("package", CHART, "--destination", str(tmp_path))
    (package,) = tmp_path.glob("koukan-*.tgz")
    assert helm("template", "koukan", str(package)) == helm("template", "koukan", CHART)


def test_definitions_can_be_left_out_or_not_kept() -> None:
    assert not [key for key in render({"crds": {"enabled": False}}) if key[0] == "CustomResourceDefinition"]
    found = render({"crds": {"keep": False}})
    for name in CRDS:
        annotations = found["CustomResourceDefinition", name]["metadata"].get("annotations") or {}
        assert "helm.sh/resource-policy" not in annotations


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("koukan", {}, "koukan"),
        ("mail", {}, "mail-koukan"),
        ("mail", {"fullnameOverride": "post"}, "post"),
        ("mail", {"nameOverride": "post"}, "mail-post"),
    ],
)
def test_names(release: str, values: dict[str, Any], name: str) -> None:
    assert ("Deployment", name) in render(values, release)


def test_a_tag_defaults_to_the_version() -> None:
    version = yaml.safe_load((Path(CHART) / "Chart.yaml").read_text())["appVersion"]
    operator = container(render()["Deployment", "koukan"])
    assert operator["image"] == f"localhost/koukan-operator:{version}"
    assert f"--image=localhost/koukan:{version}" in operator["args"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nosuchvalue": 1}, "nosuchvalue"),
        ({"crds": {"enable": True}}, "enable"),
        ({"replicas": "two"}, "replicas"),
        ({"log": {"level": "loud"}}, "level"),
        ({"watchNamespaces": "mail"}, "watchNamespaces"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"resources": {"limits": {"memory": "lots"}}}, "/resources/limits/memory"),
        ({"demo": {"enabled": True}, "watchNamespaces": ["mail"]}, "add it to watchNamespaces"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        render(values)


@pytest.mark.parametrize(
    ("values", "namespace"), [({}, "post"), ({"watchNamespaces": ["mail", "staging"]}, "mail")], ids=["all", "some"]
)
def test_notes_name_a_namespace_that_is_there_and_served(values: dict[str, Any], namespace: str) -> None:
    arguments = ("install", "koukan", CHART, "--dry-run=client", "--namespace=post", "--values=-")
    notes = helm(*arguments, stdin=json.dumps({**values, "crds": {"enabled": False}})).partition("NOTES:")[2]
    assert f"kubectl apply --namespace {namespace} -f examples/quickstart/" in notes


@pytest.mark.parametrize("values", [{}, {"demo": {"enabled": True, "postgresql": {"password": "secret"}}}])
def test_the_same_values_make_the_same_manifests(values: dict[str, Any]) -> None:
    assert render(values) == render(values)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace that enforces the `restricted` level."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def test_install_upgrade_uninstall(namespace: str, install_options: list[str]) -> None:
    """Without waiting for pods, so that a control plane alone does."""
    here = f"--namespace={namespace}"
    said = helm("install", "koukan", CHART, here, *install_options)
    assert "The operator serves all namespaces." in said
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *[f"crd/{name}" for name in CRDS])
    kubectl("apply", here, "--filename", str(ROOT / "examples" / "smarthost"))
    mine = get(RESOURCES, here)["items"]
    assert mine

    helm("upgrade", "koukan", CHART, here, "--set", f"watchNamespaces={{{namespace}}}")
    roles = get("clusterroles", "--selector=app.kubernetes.io/instance=koukan")["items"]
    assert [role["metadata"]["name"] for role in roles] == [f"{namespace}:koukan:edit", f"{namespace}:koukan:view"]
    helm("rollback", "koukan", "1", here)
    get("clusterrole", f"{namespace}:koukan")

    helm("uninstall", "koukan", here, "--wait")
    kept = get(RESOURCES, here)["items"]
    assert [each["metadata"]["uid"] for each in kept] == [each["metadata"]["uid"] for each in mine]
    assert not get("deployments,services,roles", here, "--selector=helm.sh/chart")["items"]

    # The definitions that were kept belong to the next release of that name and namespace; another takes them over.
    helm("install", "koukan", CHART, here)
    helm("uninstall", "koukan", here, "--wait")
    with pytest.raises(CommandFailed, match="cannot be imported into the current release"):
        helm("install", "another", CHART, here)
    helm("install", "another", CHART, here, "--take-ownership")
    helm("uninstall", "another", here, "--wait")
