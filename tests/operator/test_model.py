"""The three kinds as types: what they take, what they refuse and say."""

from __future__ import annotations

import pytest
from koukan_operator.errors import InvalidResource
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.model.values import (
    format_duration,
    format_quantity,
    parse_duration,
    parse_quantity,
)

from tests.support.mail_resources import Document
from tests.support.resource_cases import CASES, Case

KINDS = {kind.KIND: kind for kind in (KoukanRouter, KoukanGateway, OutputChain)}
#: what the models leave to the check of the whole configuration, where the names of all stanzas are known
LEFT = "-"


def said(document: Document) -> str:
    try:
        KINDS[document["kind"]].parse(document)
    except InvalidResource as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.document['kind']}: {case.name}")
def test_a_resource(case: Case) -> None:
    message = said(case.document)
    if case.operator in (None, LEFT):
        assert message == ""
    else:
        assert case.operator is not None
        assert case.operator in message


def test_every_problem_is_a_line() -> None:
    document = {
        "apiVersion": "koukan.io/v1alpha1",
        "kind": "KoukanRouter",
        "metadata": {"name": "mail"},
        "spec": {
            "database": {"urlSecretRef": {"name": "db", "key": "uri"}},
            "senders": [{"name": "a", "tags": [{"name": "b"}, {"name": "c", "outputchain": "x"}]}],
            "storage": {"gcTtl": "1d"},
        },
    }
    assert said(document).splitlines() == [
        "spec.senders[0].tags[1].outputchain: unknown key; did you mean 'outputChain'?",
        "spec.storage.gcTtl: must be a duration such as 30s, 5m, 24h or 1h30m, not '1d'",
    ]


def test_a_misspelt_filter_is_suggested() -> None:
    item = {"filter": "recieved_header", "receivedHostname": "mail.example.com"}
    document = {
        "apiVersion": "koukan.io/v1alpha1",
        "kind": "OutputChain",
        "metadata": {"name": "news"},
        "spec": {"chain": [item, {"filter": "rest_output"}]},
    }
    message = said(document)
    assert "'recieved_header' is no built-in filter; did you mean 'received_header'?" in message
    assert "options of a plug-in stand under `options`" in message


def test_another_kind_is_refused() -> None:
    with pytest.raises(InvalidResource, match=r"must be koukan.io/v1alpha1 KoukanRouter, not v1 Secret"):
        KoukanRouter.parse({"apiVersion": "v1", "kind": "Secret"})


def test_a_chain_names_the_routers_that_it_attaches_to() -> None:
    document = {
        "apiVersion": "koukan.io/v1alpha1",
        "kind": "OutputChain",
        "metadata": {"name": "news"},
        "spec": {"routerRefs": [{"name": "a"}, {"name": "b"}], "chain": [{"filter": "rest_output"}]},
    }
    assert OutputChain.parse(document).router_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("0s", 0), ("24h", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(90, "90s"), (7200, "2h"), (0, "0s"), (0.25, "250ms"), (120, "2m")])
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"), [("32Mi", 2**25), ("64Ki", 65536), ("1k", 1000), ("1000", 1000), ("3Gi", 3 * 2**30), ("0", 0)]
)
def test_quantities(text: str, size: int) -> None:
    assert parse_quantity(text) == size
    written = format_quantity(size)
    assert (written if isinstance(written, int) else parse_quantity(written)) == size
