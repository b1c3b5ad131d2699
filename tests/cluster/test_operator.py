"""The operator as a process against a real API server: issue by issue what it promises of the cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.cluster import NotFound
from koukan_operator.kinds import KINDS, OWNED, OWNED_SELECTOR, RESOURCES, Document, Key

from tests.support.commands import CommandFailed, kubectl
from tests.support.mail_resources import apply_definitions, as_yaml, chain, gateway, router, secret
from tests.support.operator_process import Line, OperatorProcess, api_server_process, eventually, kubeconfig, operator

pytestmark = pytest.mark.cluster

#: seconds in which a change of a chain has to be in its routers' configuration
PROMPT = 3.0
#: seconds of quiet in which nothing may be written
QUIET = 30.0


class Scene:
    """One namespace, seen through a client of the test's own."""

    def __init__(self, cluster: KubernetesCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def write(self, *documents: Document) -> None:
        """Apply documents as a person would."""
        placed = [{**d, "metadata": {**d["metadata"], "namespace": self.namespace}} for d in documents]
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=as_yaml(*placed))

    def kubectl(self, *arguments: str, timeout: float = 60) -> str:
        return kubectl("--namespace", self.namespace, *arguments, timeout=timeout)

    async def get(self, kind: str, name: str) -> Document:
        return await self.cluster.get(Key(kind, self.namespace, name))

    async def find(self, kind: str, name: str) -> Document | None:
        try:
            return await self.get(kind, name)
        except NotFound:
            return None

    async def condition(self, kind: str, name: str, type_: str) -> Document:
        """A condition for the resource's current generation, empty when there is none."""
        document = await self.get(kind, name)
        for condition in document.get("status", {}).get("conditions", ()):
            current = condition["observedGeneration"] == document["metadata"]["generation"]
            if condition["type"] == type_ and current:
                found: Document = condition
                return found
        return {}

    async def becomes(self, kind: str, name: str, type_: str, status: str, reason: str = "") -> Document:
        """Wait for a condition of that status and reason."""

        async def look() -> Document | None:
            condition = await self.condition(kind, name, type_)
            matches = condition.get("status") == status and reason in ("", condition.get("reason"))
            return condition if matches else None

        return await eventually(look)

    async def config(self, name: str = "mail") -> str:
        """A router's router.yaml, empty when there is none."""
        owned = await self.owned("ConfigMap", name)
        return next((text for document in owned for text in document["data"].values()), "")

    async def owned(self, kind: str, instance: str) -> list[Document]:
        """What was made for a resource, of one kind."""
        found = await self.cluster.list(KINDS[kind], self.namespace, OWNED_SELECTOR)
        return [d for d in found if d["metadata"]["labels"]["app.kubernetes.io/instance"] == instance]

    async def config_has(self, text: str, name: str = "mail") -> bool:
        return text in await self.config(name)

    async def versions(self) -> dict[str, str]:
        """Resource versions of everything that people and operator have in the namespace."""
        versions = {}
        for kind in (*RESOURCES, *OWNED):
            selector = "" if kind in RESOURCES else OWNED_SELECTOR
            for document in await self.cluster.list(kind, self.namespace, selector):
                metadata = document["metadata"]
                versions[f"{kind.name}/{metadata['name']}"] = metadata["resourceVersion"]
        return versions

    async def settles(self) -> dict[str, str]:
        """Wait until nothing changes for some seconds; answers the resource versions."""
        known = await self.versions()
        quiet = 0
        for _ in range(120):
            await asyncio.sleep(0.5)
            now = await self.versions()
            quiet = quiet + 1 if now == known else 0
            known = now
            if quiet >= 6:
                return known
        raise AssertionError("it does not settle")

    async def pods_become_ready(self, name: str) -> None:
        """Say in the kubelet's place that the pods of a resource run."""

        async def make() -> bool:
            deployment = await self.get("Deployment", name)
            selector = ",".join(f"{k}={v}" for k, v in deployment["spec"]["selector"]["matchLabels"].items())
            pods = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
            for pod in pods:
                ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
                patch = json.dumps({"status": {"phase": "Running", "conditions": ready}})
                self.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", patch)
            now = await self.get("Deployment", name)
            return bool(now.get("status", {}).get("availableReplicas", 0) >= now["spec"]["replicas"])

        await eventually(make)


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesCluster]:
    found = KubernetesCluster(load_configuration(in_cluster=False))
    yield found
    await found.close()


@pytest.fixture
async def scene(cluster: KubernetesCluster, namespace: str) -> Scene:
    found = Scene(cluster, namespace)
    found.write(secret())
    return found


@pytest.fixture
async def running(scene: Scene, tmp_path: Path) -> AsyncIterator[OperatorProcess]:
    async with operator(tmp_path / "operator.log", "--namespace", scene.namespace) as process:
        yield process
        assert "Traceback" not in process.log


async def written(scene: Scene, *documents: Document, sign: str, name: str = "mail") -> None:
    """Apply documents, wait until `sign` is in the router's configuration."""
    scene.write(*documents)
    await eventually(lambda: scene.config_has(sign, name))


async def test_a_router_gets_everything_that_it_needs_and_becomes_ready(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("submission"), router(chains=("submission",), replicas=2), gateway())
    await scene.becomes("KoukanRouter", "mail", "ConfigValid", "True")
    await scene.becomes("KoukanRouter", "mail", "Ready", "False", "PodsNotReady")
    for kind in ("ServiceAccount", "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"):
        assert await scene.owned(kind, "mail"), kind
    await eventually(lambda: scene.find("Deployment", "mail"))
    await eventually(lambda: scene.find("Deployment", "edge"))
    await scene.pods_become_ready("mail")
    await scene.pods_become_ready("edge")
    resources = ("koukanrouter/mail", "koukangateway/edge")
    scene.kubectl("wait", "--for=condition=Ready", "--timeout=20s", *resources)
    scene.kubectl("wait", "--for=condition=Progressing=False", "--timeout=20s", *resources)
    status = (await scene.get("KoukanRouter", "mail"))["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert (await scene.condition("OutputChain", "submission", "Accepted"))["reason"] == "Referenced"
    scene.kubectl("scale", "koukanrouter/mail", "--replicas=3")

    async def scaled() -> bool:
        return bool((await scene.get("Deployment", "mail"))["spec"]["replicas"] == 3)

    await eventually(scaled)


async def test_an_autoscaler_takes_over_the_pods_that_there_are(scene: Scene, running: OperatorProcess) -> None:
    scene.write(router(replicas=3))
    await eventually(lambda: scene.find("Deployment", "mail"))
    scene.write(router(autoscaling={"minReplicas": 2, "maxReplicas": 5}))
    await eventually(lambda: scene.find("HorizontalPodAutoscaler", "mail"))
    await scene.settles()
    assert (await scene.get("Deployment", "mail"))["spec"]["replicas"] == 3
    scene.kubectl("scale", "deployment/mail", "--replicas=4")
    scene.write(router(autoscaling={"minReplicas": 2, "maxReplicas": 5}, image="other:1"))

    async def updated() -> bool:
        deployment = await scene.get("Deployment", "mail")
        images = {container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]}
        return "other:1" in images

    await eventually(updated)
    await scene.settles()
    assert (await scene.get("Deployment", "mail"))["spec"]["replicas"] == 4


@pytest.mark.parametrize("listed", [True, False])
async def test_it_serves_the_namespaces_that_it_is_told_or_all(
    cluster: KubernetesCluster, scene: Scene, tmp_path: Path, listed: bool
) -> None:
    other = f"{scene.namespace}-other"
    kubectl("create", "namespace", other)
    second = Scene(cluster, other)
    for place in (scene, second):
        place.write(secret(), chain("a", "a.example"), router(chains=("a",)))
    both = ("--namespace", f"{scene.namespace},{other}") if listed else ()
    async with operator(tmp_path / "one.log", "--namespace", other):
        await eventually(lambda: second.config_has("a.example"))
        assert await scene.find("Deployment", "mail") is None
    async with operator(tmp_path / "both.log", *both):
        await eventually(lambda: scene.config_has("a.example"))
        second.write(chain("a", "b.example"))
        await eventually(lambda: second.config_has("b.example"))
    kubectl("delete", "namespace", other, "--wait=false")


async def test_nothing_is_written_once_it_has_settled(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("submission"), router(chains=("submission",)), gateway())
    await eventually(lambda: scene.find("Deployment", "mail"))
    await scene.pods_become_ready("mail")
    scene.kubectl("wait", "--for=condition=Ready", "--timeout=20s", "koukanrouter/mail")
    settled = await scene.settles()
    calls = await running.api_calls()
    await asyncio.sleep(QUIET)
    assert await scene.versions() == settled
    assert await running.api_calls() == calls
    managers = {
        entry["manager"]
        for document in (*await scene.owned("ConfigMap", "mail"), *await scene.owned("Service", "mail"))
        for entry in document["metadata"]["managedFields"]
    }
    assert managers == {"koukan-operator"}


Disturbance = Callable[[Scene], Awaitable[None]]


async def edit_config(scene: Scene) -> None:
    name = (await scene.owned("ConfigMap", "mail"))[0]["metadata"]["name"]
    scene.kubectl("patch", "configmap", name, "--type=merge", "-p", '{"data": {"router.yaml": "tampered"}}')


async def delete_service(scene: Scene) -> None:
    for service in await scene.owned("Service", "mail"):
        scene.kubectl("delete", "service", service["metadata"]["name"])


async def edit_deployment(scene: Scene) -> None:
    patch = '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other:1"}]'
    scene.kubectl("patch", "deployment", "mail", "--type=json", "-p", patch)


async def strip_labels(scene: Scene) -> None:
    name = (await scene.owned("ConfigMap", "mail"))[0]["metadata"]["name"]
    scene.kubectl("label", "configmap", name, "app.kubernetes.io/managed-by-", "app.kubernetes.io/instance-")


@pytest.mark.parametrize("disturb", [edit_config, delete_service, edit_deployment, strip_labels])
async def test_drift_is_repaired(scene: Scene, running: OperatorProcess, disturb: Disturbance) -> None:
    scene.write(chain("submission"), router(chains=("submission",)))
    await eventually(lambda: scene.find("Deployment", "mail"))
    await scene.settles()
    before = await content(scene)
    await disturb(scene)

    async def repaired() -> bool:
        return await content(scene) == before

    await eventually(repaired)


async def content(scene: Scene) -> dict[str, Any]:
    """What the router's objects say, without what the API server adds."""
    found: dict[str, Any] = {}
    for kind in ("ConfigMap", "Service", "Deployment"):
        for document in await scene.owned(kind, "mail"):
            spec = {k: v for k, v in (document.get("spec") or {}).items() if k not in ("clusterIP", "clusterIPs")}
            found[f"{kind}/{document['metadata']['name']}"] = (spec, document.get("data"))
    return found


async def test_a_chain_edit_changes_its_users_and_nobody_else(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a", "a.example"), chain("b", "b.example"), router("one", ("a",)), router("two", ("b",)))
    await eventually(lambda: scene.config_has("a.example", "one"))
    await eventually(lambda: scene.config_has("b.example", "two"))
    await eventually(lambda: scene.find("Deployment", "two"))
    before = await scene.settles()
    first = await config_hash(scene, "one")
    started = asyncio.get_running_loop().time()
    scene.write(chain("a", "changed.example"))
    await eventually(lambda: scene.config_has("changed.example", "one"))
    assert asyncio.get_running_loop().time() - started < PROMPT
    after = await scene.settles()
    assert await config_hash(scene, "one") != first
    changed = {name for name in after if after[name] != before.get(name)}
    config = (await scene.owned("ConfigMap", "one"))[0]["metadata"]["name"]
    assert {"OutputChain/a", f"ConfigMap/{config}", "Deployment/one"} <= changed
    assert changed <= {"OutputChain/a", f"ConfigMap/{config}", "Deployment/one", "KoukanRouter/one"}


async def config_hash(scene: Scene, name: str) -> str:
    deployment = await scene.get("Deployment", name)
    return str(deployment["spec"]["template"]["metadata"]["annotations"]["koukan.io/config-hash"])


async def test_a_missing_chain_is_reported_and_heals_when_it_comes(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a", "a.example"), router(chains=("a",)))
    await eventually(lambda: scene.config_has("a.example"))
    scene.write(router(chains=("a", "b")))
    condition = await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "False", "NotFound")
    assert 'no OutputChain "b"' in condition["message"]
    assert (await scene.condition("KoukanRouter", "mail", "Progressing"))["reason"] == "Blocked"
    assert await scene.config_has("a.example")
    scene.write(chain("b", "b.example"))
    await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "True")
    await eventually(lambda: scene.config_has("b.example"))


async def test_a_missing_secret_is_reported_and_its_coming_and_changing_noticed(
    scene: Scene, running: OperatorProcess
) -> None:
    spec = router()["spec"]
    spec["database"]["urlSecretRef"]["name"] = "later"
    scene.write(router(**spec))
    condition = await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "False")
    assert '"later"' in condition["message"]
    scene.write(secret("later", uri="postgresql://a:b@db/koukan"))
    await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "True")
    await eventually(lambda: scene.find("Deployment", "mail"))

    async def secrets_hash() -> str:
        deployment = await scene.get("Deployment", "mail")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["koukan.io/secrets-hash"])

    first = await secrets_hash()
    scene.write(secret("later", uri="postgresql://a:rotated@db/koukan"))

    async def changed() -> bool:
        return await secrets_hash() != first

    await eventually(changed)
    assert "rotated" not in running.log


async def test_an_invalid_chain_keeps_the_last_good_configuration(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a", "a.example"), router(chains=("a",)))
    await eventually(lambda: scene.find("Deployment", "mail"))
    await scene.pods_become_ready("mail")
    scene.kubectl("wait", "--for=condition=Ready", "--timeout=20s", "koukanrouter/mail")
    before = await content(scene)
    wrong = chain("a", "wrong.example")
    wrong["spec"]["chain"][0]["policy"]["destination"]["endpoint"] = "nowhere"
    scene.write(wrong)
    condition = await scene.becomes("KoukanRouter", "mail", "ConfigValid", "False", "InvalidConfig")
    assert "nowhere" in condition["message"]
    await scene.becomes("OutputChain", "a", "ConfigValid", "False")
    assert await content(scene) == before
    assert (await scene.condition("KoukanRouter", "mail", "Ready"))["reason"] == "LastGoodConfig"
    scene.write(chain("a", "right.example"))
    await scene.becomes("KoukanRouter", "mail", "ConfigValid", "True")
    await eventually(lambda: scene.config_has("right.example"))


async def test_an_object_that_is_not_ours_is_left_alone(scene: Scene, running: OperatorProcess) -> None:
    scene.kubectl("create", "deployment", "mail", "--image=theirs:1", "--replicas=0")
    theirs = await scene.get("Deployment", "mail")
    scene.write(chain("a"), router(chains=("a",)))
    condition = await scene.becomes("KoukanRouter", "mail", "Progressing", "False", "NameTaken")
    assert f"Deployment {scene.namespace}/mail exists" in condition["message"]
    now = await scene.get("Deployment", "mail")
    assert now["spec"] == theirs["spec"]
    assert now["metadata"].get("ownerReferences") is None
    assert not await scene.owned("ConfigMap", "mail")


async def test_deletion_leaves_nothing_and_waits_for_nobody(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a"), router(chains=("a",)), gateway())
    await eventually(lambda: scene.find("Deployment", "mail"))
    await eventually(lambda: scene.find("Deployment", "edge"))
    await running.stop()
    for kind in RESOURCES:
        for document in await scene.cluster.list(kind, scene.namespace):
            assert not document["metadata"].get("finalizers")
    scene.kubectl("delete", "koukanrouters,koukangateways,outputchains", "--all", "--timeout=10s")

    async def clean() -> bool:
        return not await scene.versions()

    await eventually(clean, within=60)


async def test_a_namespace_goes_with_everything_in_it(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a"), router(chains=("a",)), gateway())
    await eventually(lambda: scene.find("Deployment", "mail"))
    await eventually(lambda: scene.find("Deployment", "edge"))
    kubectl("delete", "namespace", scene.namespace, "--timeout=60s")
    kubectl("create", "namespace", scene.namespace)
    scene.write(secret(), chain("a", "again.example"), router(chains=("a",)))
    await eventually(lambda: scene.config_has("again.example"))


async def test_a_resource_that_is_made_anew_gets_its_objects_anew(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a"), router(chains=("a",)))
    first = await eventually(lambda: scene.find("Deployment", "mail"))
    scene.kubectl("delete", "koukanrouter", "mail", "--timeout=10s")
    scene.write(router(chains=("a",)))

    async def anew() -> bool:
        found = await scene.find("Deployment", "mail")
        return found is not None and found["metadata"]["uid"] != first["metadata"]["uid"]

    await eventually(anew, within=60)
    await scene.becomes("KoukanRouter", "mail", "ConfigValid", "True")


async def test_nothing_is_applied_while_it_is_paused(scene: Scene, running: OperatorProcess) -> None:
    scene.write(chain("a", "a.example"), router(chains=("a",)))
    await eventually(lambda: scene.config_has("a.example"))
    scene.kubectl("annotate", "koukanrouter", "mail", "koukan.io/pause=true")
    await scene.becomes("KoukanRouter", "mail", "Progressing", "False", "Paused")
    before = await content(scene)
    scene.write(chain("a", "b.example"), router(chains=("a",), replicas=2))
    await scene.becomes("KoukanRouter", "mail", "Progressing", "False", "Paused")
    assert await content(scene) == before
    scene.kubectl("annotate", "koukanrouter", "mail", "koukan.io/pause-")
    await eventually(lambda: scene.config_has("b.example"))


async def test_the_older_of_two_claims_on_a_sender_stays(scene: Scene, running: OperatorProcess) -> None:
    attached = {"routerRefs": [{"name": "mail"}], "senders": [{"name": "news"}]}
    scene.write(router(), chain("older", "older.example", **attached))
    await scene.becomes("OutputChain", "older", "Accepted", "True", "Accepted")
    await eventually(lambda: scene.config_has("older.example"))
    await asyncio.sleep(1.1)  # creation times have whole seconds
    scene.write(chain("newer", "newer.example", **attached))
    condition = await scene.becomes("OutputChain", "newer", "Accepted", "False", "SenderTaken")
    assert "older" in condition["message"]
    await scene.becomes("OutputChain", "older", "Accepted", "True")
    senders = yaml.safe_load(await scene.config())["sender"]
    assert [(s["name"], s["output_chain"]) for s in senders] == [("news", "older")]
    scene.kubectl("delete", "outputchain", "older")
    await scene.becomes("OutputChain", "newer", "Accepted", "True", "Accepted")
    await eventually(lambda: scene.config_has("newer.example"))


async def test_events_tell_of_transitions_once(scene: Scene, running: OperatorProcess) -> None:
    scene.write(router(chains=("a",)))
    await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "False")
    scene.write(chain("a"))
    await scene.becomes("KoukanRouter", "mail", "ReferencesResolved", "True")
    await scene.settles()
    kubectl_get = ("get", "events", "--field-selector=reportingComponent=koukan-operator", "-o", "json")
    events = json.loads(scene.kubectl(*kubectl_get))["items"]
    told = sorted((e["reason"], e["type"]) for e in events if e["message"].startswith("ReferencesResolved"))
    assert told.count(("NotFound", "Warning")) == 1
    assert ("Resolved", "Normal") in told
    assert all(event["count"] == 1 for event in events)


async def test_it_ends_at_once_when_it_is_told_to(scene: Scene, tmp_path: Path) -> None:
    """So that another one, which an upgrade starts, need not wait for its lease."""
    async with operator(tmp_path / "operator.log", "--namespace", scene.namespace) as running:
        scene.write(chain("a", "a.example"), router(chains=("a",)))
        await eventually(lambda: scene.config_has("a.example"))
        running.process.terminate()
        async with asyncio.timeout(3):
            assert await running.process.wait() == 0
        assert "Traceback" not in running.log


async def test_two_operators_at_once_do_not_fight(scene: Scene, running: OperatorProcess, tmp_path: Path) -> None:
    async with operator(tmp_path / "second.log", "--namespace", scene.namespace) as second:
        scene.write(chain("a", "a.example"), router(chains=("a",)), gateway())
        await eventually(lambda: scene.config_has("a.example"))
        await scene.settles()
        scene.write(chain("a", "b.example"))
        await eventually(lambda: scene.config_has("b.example"))
        settled = await scene.settles()
        calls = [await process.api_calls() for process in (running, second)]
        await asyncio.sleep(5)
        assert await scene.versions() == settled
        assert [await process.api_calls() for process in (running, second)] == calls


async def test_one_of_two_operators_holds_the_lease_and_the_other_follows(scene: Scene, tmp_path: Path) -> None:
    lease = ("--lease", f"{scene.namespace}/koukan-operator", "--namespace", scene.namespace)

    async def leader(process: OperatorProcess) -> bool:
        return (await process.metrics())["koukan_operator_leader"] == 1

    async with operator(tmp_path / "first.log", *lease) as first:
        await eventually(lambda: leader(first))
        async with operator(tmp_path / "second.log", *lease) as second:
            scene.write(chain("a", "a.example"), router(chains=("a",)))
            await eventually(lambda: scene.config_has("a.example"))
            assert not await leader(second)
            assert not [n for n in await second.metrics() if n.startswith("koukan_operator_reconciles_total")]
            assert await first.stop() == 0
            scene.write(chain("a", "b.example"))
            await eventually(lambda: scene.config_has("b.example"))
            assert await leader(second)


async def test_it_goes_on_after_the_line_to_the_api_server_was_cut(scene: Scene, tmp_path: Path) -> None:
    server = urlsplit(load_configuration(in_cluster=False).host)
    line = Line(str(server.hostname), server.port or 443)
    await line.mend()
    config = kubeconfig(tmp_path / "kubeconfig", lambda c, u: c.update(server=f"https://127.0.0.1:{line.port}"))
    environment = {"KUBECONFIG": str(config)}
    async with operator(tmp_path / "operator.log", "--namespace", scene.namespace, **environment) as process:
        scene.write(chain("a", "a.example"), chain("gone"), router(chains=("a",)))
        await eventually(lambda: scene.config_has("a.example"))
        await line.cut()
        scene.write(chain("a", "b.example"))
        scene.kubectl("delete", "outputchain", "gone")
        await edit_config(scene)
        await asyncio.sleep(3)
        assert not await scene.config_has("b.example")
        await line.mend()
        await eventually(lambda: scene.config_has("b.example"))
        assert (await process.get("/healthz"))[0] == 200
        assert process.process.returncode is None
    await line.cut()


async def test_it_goes_on_after_the_api_server_was_killed(scene: Scene, running: OperatorProcess) -> None:
    port = urlsplit(load_configuration(in_cluster=False).host).port or 443
    server = api_server_process(port)
    assert server is not None, f"no process kube-apiserver of this machine serves port {port}"
    scene.write(chain("a", "a.example"), router(chains=("a",)))
    await eventually(lambda: scene.config_has("a.example"))
    server.kill()
    await asyncio.to_thread(server.wait, 20)

    async def accepts_writes() -> bool:
        try:
            scene.write(chain("a", "b.example"))
        except CommandFailed:
            return False
        return True

    await eventually(accepts_writes, within=60)
    await eventually(lambda: scene.config_has("b.example"))
    scene.write(chain("a", "c.example"))
    await eventually(lambda: scene.config_has("c.example"))
    assert running.process.returncode is None


async def test_it_waits_while_its_definitions_are_gone_and_comes_back_with_them(scene: Scene, tmp_path: Path) -> None:
    definitions = [f"{kind.plural}.{kind.group}" for kind in RESOURCES]
    async with operator(tmp_path / "operator.log", "--namespace", scene.namespace) as process:
        scene.write(chain("a", "a.example"), router(chains=("a",)))
        await eventually(lambda: scene.config_has("a.example"))
        kubectl("delete", "crd", "--timeout=60s", *definitions)

        async def waits() -> bool:
            return "install the chart's CRDs" in process.log

        await eventually(waits, within=60)
        assert (await process.get("/healthz"))[0] == 200
        apply_definitions()
        scene.write(chain("a", "b.example"), router(chains=("a",)))
        await eventually(lambda: scene.config_has("b.example"), within=60)


async def test_mail_goes_on_while_the_operator_is_away_and_its_return_rolls_nothing(
    scene: Scene, tmp_path: Path
) -> None:
    arguments = ("--namespace", scene.namespace)
    async with operator(tmp_path / "first.log", *arguments):
        scene.write(chain("a", "a.example"), router(chains=("a",)))
        await eventually(lambda: scene.config_has("a.example"))
        await scene.settles()
    before = await scene.settles()
    async with operator(tmp_path / "second.log", *arguments) as process:
        await scene.settles()
        assert await scene.versions() == before
        samples = await process.metrics()
        assert not any('method="PATCH"' in name for name in samples)
