"""Rendering: golden files for each option, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from koukan_operator.kinds import KINDS, OPTIONAL, OWNED
from koukan_operator.labels import CONFIG_HASH, SECRETS_HASH
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.references import ObjectRef, Refs, references_of
from koukan_operator.render import Rendered, render_router
from sqlalchemy import make_url

from koukan.config.files import load_gateway, load_router
from koukan.config.gateway import GatewayConfig
from koukan.config.loader import Loaded
from koukan.config.router import RouterConfig
from tests.support import golden, mail_resources
from tests.support.mail_resources import Document

#: what the pod has in its environment
ENVIRONMENT = {"POD_IP": "10.0.0.7", "DATABASE_USERNAME": "koukan", "DATABASE_PASSWORD": "p/w"}


@pytest.mark.parametrize("name", golden.cases())
def test_golden(name: str) -> None:
    """When it is meant: python -m tests.support.golden."""
    assert golden.output(golden.source(name)) == golden.expected(name)


def configurations(answer: Rendered, directory: Path) -> Iterator[Loaded[RouterConfig] | Loaded[GatewayConfig]]:
    """The configuration files of a rendering, loaded as the programs load them."""
    for manifest in answer.manifests:
        for name, text in manifest.get("data", {}).items() if manifest["kind"] == "ConfigMap" else ():
            path = directory / name
            path.write_text(text)
            load: Any = load_router if name == "router.yaml" else load_gateway
            yield load(str(path), ENVIRONMENT)


def documents_of(name: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(golden.source(name)) if document is not None]


@pytest.mark.parametrize("name", golden.cases())
def test_what_is_rendered_loads(name: str, tmp_path: Path) -> None:
    """Everything that may be applied is a configuration that starts, without a key that looks misspelt."""
    for _, answer in golden.rendered(documents_of(name)):
        if answer.applicable:
            loaded = list(configurations(answer, tmp_path))
            assert len(loaded) == 1
            assert loaded[0].typos == []


@pytest.mark.parametrize("name", golden.cases())
def test_manifests_are_complete(name: str) -> None:
    for _, answer in golden.rendered(documents_of(name)):
        assert bool(answer.manifests) == (not answer.problems)
        for manifest in answer.manifests:
            assert KINDS[manifest["kind"]] in (*OWNED, *OPTIONAL)
            assert manifest["apiVersion"] == KINDS[manifest["kind"]].api_version
            assert manifest["metadata"]["namespace"] == "mail"
            assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "koukan-operator"


def test_text_of_resources_is_no_variable(tmp_path: Path) -> None:
    (answer,) = (answer for _, answer in golden.rendered(documents_of("router-escaping")))
    (loaded,) = configurations(answer, tmp_path)
    assert isinstance(loaded.config, RouterConfig)
    assert loaded.config.rest_endpoint[0].endpoint == "https://example.com/${NOT_A_VARIABLE}"
    assert loaded.config.endpoint[0].chain[0].message == "5.7.1 costs $${5} or ${FIVE}"


def test_a_password_reaches_the_database_as_it_is(tmp_path: Path) -> None:
    (answer,) = (answer for _, answer in golden.rendered(documents_of("router-database-in-parts")))
    (loaded,) = configurations(answer, tmp_path)
    assert isinstance(loaded.config, RouterConfig)
    assert str(loaded.config.storage.url).startswith("postgresql://koukan:p%2Fw@db.example.com:5433/koukan?")


def pod_annotations(answer: Rendered) -> Document:
    deployment = next(m for m in answer.manifests if m["kind"] == "Deployment")
    annotations: Document = deployment["spec"]["template"]["metadata"]["annotations"]
    return annotations


def test_a_secret_changes_its_hash_and_nothing_else() -> None:
    documents = [mail_resources.router(), mail_resources.secret(uri="postgresql://one")]
    ((_, before),) = golden.rendered(documents)
    ((_, after),) = golden.rendered([documents[0], mail_resources.secret(uri="postgresql://two")])
    assert pod_annotations(before)[SECRETS_HASH] != pod_annotations(after)[SECRETS_HASH]
    assert pod_annotations(before)[CONFIG_HASH] == pod_annotations(after)[CONFIG_HASH]
    assert "postgresql://one" not in str(before.manifests)


def test_an_ipv6_address_of_the_database_is_one_in_the_url(tmp_path: Path) -> None:
    parts = {"host": "fd00::1", "name": "koukan", "credentialsSecretRef": {"name": "db"}}
    documents = [mail_resources.router(database=parts), mail_resources.secret(username="u", password="p")]
    ((_, answer),) = golden.rendered(documents)
    (loaded,) = configurations(answer, tmp_path)
    assert isinstance(loaded.config, RouterConfig)
    url = make_url(loaded.config.storage.url or "")
    assert (url.host, url.port, url.database) == ("fd00::1", 5432, "koukan")


def test_keys_that_are_not_used_change_nothing() -> None:
    router = mail_resources.router()
    uri = "postgresql://one"
    ((_, before),) = golden.rendered([router, mail_resources.secret(uri=uri, other="a")])
    ((_, after),) = golden.rendered([router, mail_resources.secret(uri=uri, other="b")])
    assert before == after


def test_another_version_of_the_operator_rolls_nothing() -> None:
    """The pod template knows the image and the configuration, not who wrote it."""
    text = str(golden.output(golden.source("router-minimal")))
    assert "version" not in text.replace("apiVersion", "").replace("resourceVersion", "")


def test_a_chain_changes_the_routers_that_use_it() -> None:
    secret = mail_resources.secret()
    users = [mail_resources.router("mail", ("news",)), mail_resources.router("other", ("bills",))]
    bills = mail_resources.chain("bills")
    before = dict(golden.rendered([*users, secret, bills, mail_resources.chain("news", "example.com")]))
    after = dict(golden.rendered([*users, secret, bills, mail_resources.chain("news", "example.org")]))
    old, new = (pod_annotations(answers["KoukanRouter/mail"]) for answers in (before, after))
    assert old[CONFIG_HASH] != new[CONFIG_HASH]
    assert before["KoukanRouter/other"] == after["KoukanRouter/other"]


def closure(resource: KoukanRouter | KoukanGateway, documents: list[Document]) -> set[str]:
    """References followed to the end, as reconciling does."""
    everything = golden.refs_of(documents)
    found: dict[ObjectRef, Any] = {}
    while True:
        refs = Refs(found, everything.chains)
        wanted = references_of(resource, refs)
        new = {ref: everything.found[ref] for ref in wanted if ref in everything.found}
        if new.keys() == found.keys():
            return {str(ref) for ref in wanted}
        found = new


def test_references_of_a_router() -> None:
    documents = documents_of("router-endpoints")
    assert closure(KoukanRouter.parse(documents[0]), documents) == {
        "KoukanGateway/edge",
        "KoukanGateway/inner",
        "KoukanRouter/archive",
        "Secret/apps-ca",
        "Secret/apps-token",
        "Secret/archive-tls",
        "Secret/edge-tls",
        "Secret/mail-db-app",
    }


def test_references_lead_over_chains_to_their_secrets() -> None:
    first = mail_resources.chain("first", chain=[{"filter": "exploder", "outputChain": "second"}])
    sign = {"filter": "dkim_sign", "domain": "d", "selector": "s", "keySecretRef": {"name": "dkim", "key": "k"}}
    second = mail_resources.chain("second", chain=[sign, {"filter": "rest_output"}])
    attached = mail_resources.chain("attached", routerRefs=[{"name": "mail"}])
    documents = [mail_resources.router("mail", ("first",)), first, second, attached]
    names = {"OutputChain/first", "OutputChain/second", "OutputChain/attached", "Secret/dkim", "Secret/db"}
    assert closure(KoukanRouter.parse(documents[0]), documents) == names


def test_references_of_a_gateway() -> None:
    documents = documents_of("gateway-listeners")
    assert closure(KoukanGateway.parse(documents[0]), documents) == {
        "KoukanRouter/away",
        "Secret/away-tls",
        "Secret/edge-tls",
        "Secret/smtp-users",
    }


def test_references_that_go_in_circles_end() -> None:
    chains = [
        mail_resources.chain(name, chain=[{"filter": "exploder", "outputChain": other}])
        for name, other in (("a", "b"), ("b", "a"))
    ]
    documents = [mail_resources.router("mail", ("a",)), *chains]
    assert closure(KoukanRouter.parse(documents[0]), documents) >= {"OutputChain/a", "OutputChain/b"}
    answer = render_router(KoukanRouter.parse(documents[0]), golden.refs_of(documents), golden.SETTINGS)
    assert answer.chains == ("a", "b")
