"""Properties of rendering, over resources that hypothesis makes up."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from koukan_operator.render.findings import SECRETS_DIRECTORY

from koukan.cli.main import main
from tests.support import golden
from tests.support.mail_resources import Document, resource, secret

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
CHAINS = ("news", "bills", "mx", "mx-up")
ENDPOINTS = ("app", "edge", "self")

names = st.sampled_from(CHAINS)
#: what people may type, variables and quotes included
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
) | st.sampled_from(["${HOME}", "$${X}", "${", "a: b", "- x", "'", '"', "null", "1e3", "yes"])
durations = st.sampled_from(["1s", "90s", "1h30m", "250ms", "24h"])
switches = st.sampled_from(["OutputChain", "None"])


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=keys)


def merged(*parts: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    return st.tuples(*parts).map(lambda each: {key: value for part in each for key, value in part.items()})


tags = merged(
    st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "ü", "c/d"])}),
    optional(
        retry=switches, notification=switches, remoteHost=texts, smtpMeta=optional(ehloHost=texts, esmtp=st.booleans())
    ),
)
senders = merged(
    st.fixed_dictionaries({"name": texts, "outputChain": names}),
    optional(retry=switches, notification=switches),
    optional(tags=st.lists(tags, max_size=3, unique_by=lambda tag: str(tag["name"]))),
)
destinations = st.fixed_dictionaries(
    {"endpoint": st.sampled_from(ENDPOINTS)}, optional={"options": optional(sendFilterOutput=st.booleans())}
)
policies = st.fixed_dictionaries(
    {"name": st.just("address_list"), "destination": destinations},
    optional={"domains": st.lists(texts, max_size=3), "prefixes": st.lists(texts, max_size=2), "delimiter": texts},
)
matches = st.recursive(
    st.sampled_from(
        [
            {"matcher": "smtp_tls"},
            {"matcher": "network_address", "cidr": "192.0.2.0/24"},
            {"matcher": "address_list", "domains": ["example.com"]},
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda each: {"not": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"any": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"all": each}),
    ),
    max_leaves=5,
)
filters = st.one_of(
    st.just({"filter": "message_validation"}),
    st.fixed_dictionaries({"filter": st.just("add_route"), "sender": st.just("constant")}),
    st.fixed_dictionaries({"filter": st.just("router"), "policy": policies}),
    st.fixed_dictionaries(
        {"filter": st.just("policy_action"), "tag": texts},
        optional={"match": matches, "message": texts, "action": st.sampled_from(["Reject", "Match", "Log"])},
    ),
    st.fixed_dictionaries(
        {
            "filter": st.just("dkim_sign"),
            "domain": st.sampled_from(["example.com", "a.example"]),
            "selector": st.just("s1"),
        },
        optional={"keySecretRef": st.just({"name": "dkim", "key": "k.pem"})},
    ),
)
handlers = optional(
    downstreamTimeout=durations,
    retryParams=optional(
        maxAttempts=st.integers(1, 99) | st.just("Unlimited"),
        deadline=durations | st.just("Unlimited"),
        bugRetry=durations,
    ),
)
chain_specs = st.fixed_dictionaries(
    {"chain": st.lists(filters, max_size=4).map(lambda items: [*items, {"filter": "rest_output"}])},
    optional={"msa": st.booleans(), "outputHandler": handlers},
)
claims = st.lists(
    st.fixed_dictionaries({"name": texts}, optional={"tags": st.lists(tags, max_size=2), "retry": switches}),
    max_size=3,
    unique_by=lambda claim: str(claim["name"]),
)


@st.composite
def namespaces(draw: st.DrawFn) -> list[Document]:
    """A router, its gateway, its chains, some of them attached, and the Secrets."""
    spec = {
        "database": {"urlSecretRef": {"name": "db", "key": "uri"}},
        "mailerDaemonMailbox": "mailer-daemon@example.com",
        "senders": [
            {"name": "constant", "outputChain": "copies"},
            *draw(st.lists(senders, max_size=4, unique_by=lambda sender: str(sender["name"]))),
        ],
        "restEndpoints": [
            {"name": "app", "url": "https://app.example.com/${mail}", "sender": draw(texts)},
            {"name": "edge", "gatewayRef": {"name": "edge"}, "tag": "out"},
            {"name": "self", "routerRef": {"name": "mail"}, "sender": draw(texts)},
        ],
        **draw(optional(drainTimeout=durations, maxMessageSize=st.sampled_from(["1Mi", 65536]), dequeue=st.booleans())),
    }
    gateway = {"smtpOutput": {"hosts": [{"name": "out", "ehloHost": draw(texts)}]}}
    documents = [resource("KoukanRouter", "mail", spec), resource("KoukanGateway", "edge", gateway)]
    for name in CHAINS:
        attached = draw(st.booleans())
        claimed = {"routerRefs": [{"name": "mail"}], "senders": draw(claims)} if attached else {}
        chain = resource("OutputChain", name, {**draw(chain_specs), **claimed})
        chain["metadata"]["creationTimestamp"] = draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]))
        documents.append(chain)
    copies = resource("OutputChain", "copies", {"chain": [{"filter": "rest_output", "staticEndpoint": "app"}]})
    return [*documents, copies, secret(), secret("dkim", **{"k.pem": "K"})]


def reordered(value: Any) -> Any:
    """The same document with every mapping the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(namespaces())
@settings(max_examples=100, deadline=None)
def test_rendering_depends_on_content_alone(documents: list[Document]) -> None:
    """Not on the order of keys or objects, and it changes nothing that it is given."""
    kept = copy.deepcopy(documents)
    once = dict(golden.rendered(documents))
    assert documents == kept
    again = dict(golden.rendered([reordered(document) for document in reversed(documents)]))
    for name, answer in once.items():
        assert answer.manifests == again[name].manifests
        assert answer.claims == again[name].claims


@given(namespaces())
@settings(max_examples=50, deadline=None)
def test_what_may_be_applied_passes_the_check(documents: list[Document]) -> None:
    """`koukan check` of the rendered file: chains can be built, no key is misspelt."""
    for name, answer in golden.rendered(documents):
        assert answer.applicable, (name, answer.problems, answer.missing)
        for manifest in answer.manifests:
            if manifest["kind"] == "ConfigMap":
                check(manifest["data"])


def check(files: Document) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as environment:
        environment.setenv("POD_IP", "10.0.0.7")
        secrets = Path(directory) / "dkim"
        secrets.mkdir()
        (secrets / "k.pem").write_bytes(KEY)
        for name, text in files.items():
            path = Path(directory) / name
            path.write_text(text.replace(SECRETS_DIRECTORY, directory), encoding="utf-8")
            assert main(["check", "--elsewhere", str(path)]) == 0
