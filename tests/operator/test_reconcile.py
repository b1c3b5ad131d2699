"""Reconciling against an API server in memory: what is made, what is left alone, what the status says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from koukan_operator import metrics
from koukan_operator.cache import Cache
from koukan_operator.cluster import Forbidden, Invalid, Unavailable
from koukan_operator.kinds import DEPLOYMENT, OWNED_SELECTOR, RESOURCES, Document, Key, key_of
from koukan_operator.reconcile import Reconciler, is_paused
from koukan_operator.settings import CERT_MANAGER_API, OperatorSettings
from koukan_operator.triggers import Triggers

from tests.support.api_double import FakeCluster
from tests.support.mail_resources import chain, gateway, router, secret

MAIL = Key("KoukanRouter", "mail", "mail")
EDGE = Key("KoukanGateway", "mail", "edge")


class House:
    """Cluster, cache, triggers and reconciler, without watches and workers: `settle` plays both."""

    def __init__(self, *documents: Document, cluster: FakeCluster | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        self.cache = Cache()
        self.due: list[Key] = []
        self.reconciled: list[Key] = []
        self.again: dict[Key, float | None] = {}
        settings = OperatorSettings(image="koukan:1")
        self.reconciler = Reconciler(self.cluster, self.cache, settings, self._enqueue)
        self.triggers = Triggers(self.cache, self.reconciler.index, self._enqueue)
        self.put(*documents)

    def put(self, *documents: Document) -> None:
        """Somebody applies documents."""
        for document in documents:
            status = self.cluster.objects.get(key_of(document), {}).get("status")
            self.cluster.put(as_stored(document) if status is None else {**as_stored(document), "status": status})

    async def settle(self) -> list[str]:
        """Tell of everything that has changed and reconcile until nothing is due; answers the writes."""
        self.cluster.calls.clear()
        self.reconciled.clear()
        for _ in range(20):
            for document in list(self.cluster.objects.values()):
                await self.triggers.saw(document)
            for kind in (*RESOURCES, DEPLOYMENT):
                for key in self.cache.keys(kind):
                    if key not in self.cluster.objects:
                        await self.triggers.lost(key, self.cache.uids(kind, None)[key])
            if not self.due:
                return list(self.cluster.calls)
            key = self.due.pop(0)
            self.reconciled.append(key)
            self.again[key] = await self.reconciler.reconcile(key)
        raise AssertionError(f"it does not settle: {self.reconciled}")

    async def _enqueue(self, key: Key) -> None:
        if key not in self.due:
            self.due.append(key)

    def condition(self, key: Key, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        conditions = self.cluster.objects[key]["status"]["conditions"]
        found = next(c for c in conditions if c["type"] == type_)
        return found["status"], found["reason"], found["message"]

    def config(self, name: str = "mail") -> dict[str, Any]:
        """A router's router.yaml."""
        for document in self.owned("ConfigMap", name):
            loaded: dict[str, Any] = yaml.safe_load(document["data"]["router.yaml"])
            return loaded
        return {}

    def owned(self, kind: str, name: str) -> list[Document]:
        label, _, value = OWNED_SELECTOR.partition("=")
        documents = (d for key, d in sorted(self.cluster.objects.items()) if key.kind == kind)
        return [
            document
            for document in documents
            if document["metadata"].get("labels", {}).get(label) == value
            and document["metadata"]["labels"]["app.kubernetes.io/instance"] == name
        ]

    def run_pods(self, name: str) -> None:
        """The Deployment's pods become ready."""
        document = self.cluster.objects[Key("Deployment", "mail", name)]
        count = document["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        self.cluster.put({**document, "status": {"observedGeneration": document["metadata"]["generation"], **counts}})


def as_stored(document: Document) -> Document:
    """A Secret as the API server keeps it."""
    if document["kind"] != "Secret":
        return document
    stored = {name: value for name, value in document.items() if name != "stringData"}
    return {**stored, "data": document["stringData"]}


async def test_a_router_is_made_and_left_alone_afterwards() -> None:
    house = House(secret(), chain("a"), router(chains=("a",)))
    writes = await house.settle()
    assert "apply Deployment mail/mail" in writes
    assert writes.count("status KoukanRouter mail/mail") == 1
    assert house.config()["sender"][0]["name"] == "a"
    assert house.condition(MAIL, "ConfigValid")[:2] == ("True", "Valid")
    assert house.condition(MAIL, "Ready")[:2] == ("False", "PodsNotReady")
    for key in house.cache.keys(RESOURCES[0]):
        await house.reconciler.reconcile(key)
    assert await house.settle() == []


async def test_a_certificate_that_no_issuer_has_issued_is_unresolved_and_heals_when_it_comes() -> None:
    house = House(secret(), router(tls={"issuerRef": {"name": "ca"}}))
    house.reconciler.planner.settings = OperatorSettings(image="koukan:1", available_apis=frozenset({CERT_MANAGER_API}))
    await house.settle()
    status, reason, message = house.condition(MAIL, "ReferencesResolved")
    assert (status, reason) == ("False", "NotIssued")
    assert 'Certificate "mail-tls" is not ready: cert-manager has said nothing about it yet.' in message
    certificate = house.cluster.objects[Key("Certificate", "mail", "mail-tls")]
    waiting = {"type": "Ready", "status": "False", "message": "Secret does not exist."}
    house.cluster.put({**certificate, "status": {"conditions": [waiting]}})
    await house.settle()
    assert (
        "not ready: Secret does not exist. See: kubectl -n mail describe"
        in house.condition(MAIL, "ReferencesResolved")[2]
    )
    house.cluster.put({**certificate, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    await house.settle()
    assert house.condition(MAIL, "ReferencesResolved")[:2] == ("True", "Resolved")


async def test_readiness_follows_the_pods() -> None:
    house = House(secret(), router(replicas=2))
    await house.settle()
    house.run_pods("mail")
    assert await house.settle() == ["status KoukanRouter mail/mail", "create Event PodsReady"]
    assert house.condition(MAIL, "Ready")[:2] == ("True", "PodsReady")
    assert house.condition(MAIL, "Progressing")[:2] == ("False", "Complete")
    status = house.cluster.objects[MAIL]["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert "app.kubernetes.io/instance=mail" in status["selector"]
    assert status["serviceUri"].startswith("http://mail.mail.svc")


async def test_what_is_not_known_yet_is_never_taken_for_absent() -> None:
    """A chain that its router has not been asked about waits for it; its status does not flap after a restart."""
    house = House(secret(), chain("a"), router(chains=("a",)))
    await house.settle()
    status = house.cluster.objects[Key("OutputChain", "mail", "a")]["status"]
    fresh = House(cluster=house.cluster)
    fresh.due = [Key("OutputChain", "mail", "a")]
    assert await fresh.settle() == []
    assert fresh.cluster.objects[Key("OutputChain", "mail", "a")]["status"] == status


@pytest.mark.parametrize(
    ("missing", "sign"),
    [("Secret", 'no Secret "db"'), ("OutputChain", 'no OutputChain "a"')],
)
async def test_a_missing_reference_is_said_and_heals(missing: str, sign: str) -> None:
    documents = {"Secret": secret(), "OutputChain": chain("a"), "KoukanRouter": router(chains=("a",))}
    house = House(*(document for kind, document in documents.items() if kind != missing))
    writes = await house.settle()
    assert not [write for write in writes if write.startswith("apply")]
    status, reason, message = house.condition(MAIL, "ReferencesResolved")
    assert (status, reason) == ("False", "NotFound")
    assert sign in message
    assert house.condition(MAIL, "Progressing")[:2] == ("False", "Blocked")
    assert "ReferencesResolved" in house.condition(MAIL, "Ready")[2]
    house.put(documents[missing])
    assert "apply Deployment mail/mail" in await house.settle()
    assert house.condition(MAIL, "ReferencesResolved")[:2] == ("True", "Resolved")


def without_endpoint(document: Document) -> None:
    document["spec"]["chain"][0]["policy"]["destination"]["endpoint"] = "nowhere"


def with_unknown_filter(document: Document) -> None:
    document["spec"]["chain"][0] = {"filter": "no_such_filter"}


@pytest.mark.parametrize("spoil", [without_endpoint, with_unknown_filter])
async def test_an_invalid_chain_changes_nothing_that_runs(spoil: Callable[[Document], None]) -> None:
    house = House(secret(), chain("a", "good.example"), router(chains=("a",)))
    await house.settle()
    house.run_pods("mail")
    await house.settle()
    wrong = chain("a", "wrong.example")
    spoil(wrong)
    house.put(wrong)
    writes = await house.settle()
    assert not [write for write in writes if write.startswith(("apply", "delete"))]
    assert house.condition(MAIL, "ConfigValid")[0] == "False"
    assert house.condition(MAIL, "Ready")[:2] == ("True", "LastGoodConfig")
    assert house.condition(Key("OutputChain", "mail", "a"), "ConfigValid")[0] == "False"
    assert "good.example" in json.dumps(house.config())
    house.put(chain("a", "better.example"))
    await house.settle()
    assert "better.example" in json.dumps(house.config())
    assert house.condition(MAIL, "ConfigValid")[0] == "True"


def broken(name: str, **spec: Any) -> Document:
    document = chain(name, "wrong.example", **spec)
    without_endpoint(document)
    return document


async def test_a_broken_chain_does_not_hold_up_the_others() -> None:
    house = House(secret(), chain("a", "a1.example"), chain("b", "b1.example"), router(chains=("a", "b")))
    await house.settle()
    house.put(broken("a"))
    await house.settle()
    house.put(chain("b", "b2.example"))
    await house.settle()
    config = json.dumps(house.config())
    assert "a1.example" in config
    assert "b2.example" in config
    assert house.condition(MAIL, "ConfigValid")[0] == "False"
    assert house.condition(Key("OutputChain", "mail", "b"), "ConfigValid")[0] == "True"
    # What b was when a broke is long past: it is not what b goes back to.
    house.put(broken("b"))
    await house.settle()
    assert "b2.example" in json.dumps(house.config())


ATTACHED = {"routerRefs": [{"name": "mail"}], "senders": [{"name": "news"}]}
NEWS = Key("OutputChain", "mail", "news")


async def test_a_new_chain_that_is_not_complete_is_left_out_and_the_router_goes_on() -> None:
    house = House(secret(), chain("a", "a1.example"), router(chains=("a",)))
    await house.settle()
    signing = {"filter": "dkim_sign", "domain": "d", "selector": "s", "keySecretRef": {"name": "dkim", "key": "k"}}
    news = chain("news", "news.example", **ATTACHED)
    news["spec"]["chain"].insert(0, signing)
    house.put(news, chain("a", "a2.example"))
    await house.settle()
    config = json.dumps(house.config())
    assert "a2.example" in config
    assert "news.example" not in config
    assert house.condition(NEWS, "ReferencesResolved")[0] == "False"
    assert house.cluster.objects[NEWS]["status"]["routers"] == []
    assert house.condition(MAIL, "ReferencesResolved")[0] == "True"
    assert "OutputChain news is left out" in house.condition(MAIL, "ConfigValid")[2]
    assert house.condition(MAIL, "Ready")[1] == "PodsNotReady"
    house.put(secret("dkim", k="key"))
    await house.settle()
    assert "news.example" in json.dumps(house.config())
    assert house.cluster.objects[NEWS]["status"]["routers"] == ["mail"]


async def test_a_chain_that_runs_and_breaks_runs_on_as_it_was_even_after_a_restart() -> None:
    house = House(secret(), router(), chain("news", "news.example", **ATTACHED))
    await house.settle()
    house.put(broken("news", **ATTACHED))
    await house.settle()
    assert "news.example" in json.dumps(house.config())
    assert house.condition(NEWS, "ConfigValid")[0] == "False"
    assert house.condition(MAIL, "ConfigValid")[0] == "True"
    assert house.cluster.objects[NEWS]["status"]["routers"] == ["mail"]
    fresh = House(cluster=house.cluster)
    writes = await fresh.settle()
    assert not [write for write in writes if write.startswith(("apply", "delete"))]
    assert fresh.condition(MAIL, "ConfigValid")[0] == "False"
    assert fresh.cluster.objects[NEWS]["status"]["routers"] == ["mail"]
    fresh.put(chain("news", "better.example", **ATTACHED))
    await fresh.settle()
    assert "better.example" in json.dumps(fresh.config())
    assert fresh.condition(MAIL, "ConfigValid")[0] == "True"


async def test_an_invalid_router_keeps_what_it_has() -> None:
    house = House(secret(), chain("a"), router(chains=("a",)))
    await house.settle()
    house.put(router(chains=("a",), database={}))
    writes = await house.settle()
    assert not [write for write in writes if write.startswith(("apply", "delete"))]
    status, reason, message = house.condition(MAIL, "ConfigValid")
    assert (status, reason) == ("False", "InvalidResource")
    assert "database" in message
    assert house.condition(MAIL, "ReferencesResolved")[0] == "Unknown"
    assert house.cluster.objects[MAIL]["status"]["serviceUri"]


async def test_only_users_of_a_chain_are_touched() -> None:
    house = House(secret(), chain("a"), chain("b"), router("one", ("a",)), router("two", ("b",)))
    await house.settle()
    house.put(chain("a", "changed.example"))
    writes = await house.settle()
    assert [w for w in writes if w.startswith("apply")] == [
        f"apply ConfigMap mail/{house.owned('ConfigMap', 'one')[0]['metadata']['name']}",
        "apply Deployment mail/one",
    ]
    assert Key("KoukanRouter", "mail", "two") not in house.reconciled


async def test_a_rotated_secret_rolls_its_users_and_is_never_kept_in_clear() -> None:
    house = House(secret(), router(), secret("other", value="x"))
    await house.settle()
    house.put(secret(uri="postgresql://koukan:rotated@db/koukan"))
    assert "apply Deployment mail/mail" in await house.settle()
    house.put(secret("other", value="y"))
    assert await house.settle() == []
    assert "rotated" not in json.dumps([house.cache.get(key) for key in house.cache._objects])


async def test_a_change_of_labels_concerns_no_user() -> None:
    house = House(secret(), router())
    await house.settle()
    document = secret()
    document["metadata"]["labels"] = {"team": "mail"}
    house.put(document)
    await house.settle()
    assert house.reconciled == []


async def test_attached_chains_open_senders_and_close_them_when_they_go() -> None:
    attached = {"routerRefs": [{"name": "mail"}], "senders": [{"name": "news"}]}
    house = House(secret(), router(), chain("news", **attached))
    await house.settle()
    assert [s["name"] for s in house.config()["sender"]] == ["news"]
    news = Key("OutputChain", "mail", "news")
    assert house.condition(news, "Accepted")[:2] == ("True", "Accepted")
    assert house.cluster.objects[news]["status"]["routers"] == ["mail"]
    house.cluster.remove(news)
    await house.settle()
    assert not house.config().get("sender")


async def test_a_chain_that_attaches_to_no_router_or_is_used_by_none_says_so() -> None:
    house = House(secret(), router(), chain("lost", routerRefs=[{"name": "absent"}]), chain("spare"))
    await house.settle()
    lost, spare = Key("OutputChain", "mail", "lost"), Key("OutputChain", "mail", "spare")
    assert house.condition(lost, "Accepted")[:2] == ("False", "RouterNotFound")
    assert house.condition(lost, "ReferencesResolved")[0] == "False"
    assert house.condition(spare, "Accepted")[:2] == ("False", "NotReferenced")
    house.put(router("absent"))
    await house.settle()
    assert house.condition(lost, "Accepted")[:2] == ("True", "Accepted")
    house.put(router(chains=("spare",)))
    await house.settle()
    assert house.condition(spare, "Accepted")[:2] == ("True", "Referenced")


async def test_of_two_claims_the_older_one_holds() -> None:
    attached = {"routerRefs": [{"name": "mail"}], "senders": [{"name": "news"}]}
    older, newer = chain("z-older", **attached), chain("a-newer", **attached)
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    newer["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    house = House(secret(), router(), newer, older)
    await house.settle()
    assert house.condition(key_of(older), "Accepted")[0] == "True"
    status, reason, message = house.condition(key_of(newer), "Accepted")
    assert (status, reason) == ("False", "SenderTaken")
    assert "z-older" in message
    house.cluster.remove(key_of(older))
    await house.settle()
    assert house.condition(key_of(newer), "Accepted")[0] == "True"


async def test_nothing_is_applied_while_paused() -> None:
    paused = router()
    paused["metadata"]["annotations"] = {"koukan.io/pause": "true"}
    house = House(secret(), paused)
    assert not [write for write in await house.settle() if write.startswith("apply")]
    assert house.condition(MAIL, "Progressing")[:2] == ("False", "Paused")
    house.put(router())
    assert "apply Deployment mail/mail" in await house.settle()


@pytest.mark.parametrize(("value", "paused"), [("", True), ("true", True), ("until monday", True), ("false", False)])
def test_a_pause_is_asked_for_by_annotation(value: str, paused: bool) -> None:
    assert is_paused({"metadata": {"annotations": {"koukan.io/pause": value}}}) is paused
    assert not is_paused({"metadata": {}})


async def test_a_name_that_is_taken_is_said_and_looked_at_again() -> None:
    house = House(secret(), router())
    foreign = {"kind": "Deployment", "metadata": {"name": "mail", "namespace": "mail"}, "spec": {"replicas": 0}}
    house.cluster.put(foreign)
    writes = await house.settle()
    assert not [write for write in writes if write.startswith("apply")]
    status, reason, message = house.condition(MAIL, "Progressing")
    assert (status, reason) == ("False", "NameTaken")
    assert "Deployment mail/mail" in message
    assert 0 < (house.again[MAIL] or 0) < 60
    house.cluster.remove(Key("Deployment", "mail", "mail"))
    await house.reconciler.reconcile(MAIL)
    assert house.condition(MAIL, "Progressing")[1] == "RollingOut"


@pytest.mark.parametrize("error", [Invalid("PATCH: spec.x: too long"), Forbidden("exceeded quota: pods")])
async def test_what_the_api_server_refuses_is_said(error: Invalid | Forbidden) -> None:
    house = House(secret(), router())
    for document in house.cluster.objects.values():
        house.cache.put(document)
    house.cluster.failures = [error]
    house.again[MAIL] = await house.reconciler.reconcile(MAIL)
    status, reason, message = house.condition(MAIL, "Progressing")
    assert (status, reason) == ("False", "Refused")
    assert str(error) in message
    assert 0 < (house.again[MAIL] or 0) < 120


async def test_what_is_temporary_is_the_queues_to_repeat() -> None:
    house = House(secret(), router())
    for document in house.cluster.objects.values():
        house.cache.put(document)
    house.cluster.failures = [Unavailable("no answer")]
    with pytest.raises(Unavailable):
        await house.reconciler.reconcile(MAIL)
    assert "status" not in house.cluster.objects[MAIL]


async def test_an_event_that_cannot_be_written_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    house = House(router())
    for document in house.cluster.objects.values():
        house.cache.put(document)

    async def refuse(document: Document) -> Document:
        raise Forbidden("events are forbidden")

    house.cluster.create = refuse
    await house.reconciler.reconcile(MAIL)
    assert house.condition(MAIL, "ReferencesResolved")[0] == "False"
    assert "no event" in caplog.text


async def test_a_resource_on_its_way_out_is_left_to_the_garbage_collector() -> None:
    leaving = router()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    house = House(secret(), leaving)
    assert await house.settle() == []


async def test_a_gateway_follows_its_router() -> None:
    house = House(secret(), gateway())
    await house.settle()
    assert house.condition(EDGE, "ReferencesResolved")[:2] == ("False", "NotFound")
    house.put(router())
    writes = await house.settle()
    assert "apply Deployment mail/edge" in writes
    assert house.condition(EDGE, "ReferencesResolved")[0] == "True"


async def test_the_metrics_count_resources_by_readiness() -> None:
    def count(status: str) -> float:
        return (
            metrics.REGISTRY.get_sample_value("koukan_operator_resources", {"kind": "KoukanRouter", "status": status})
            or 0
        )

    before = count("False"), count("True")
    house = House(secret(), router())
    await house.settle()
    assert (count("False"), count("True")) == (before[0] + 1, before[1])
    house.run_pods("mail")
    await house.settle()
    assert (count("False"), count("True")) == (before[0], before[1] + 1)
    house.cluster.remove(MAIL)
    await house.settle()
    assert (count("False"), count("True")) == before
