"""The examples: valid as they stand, complete but for the Secrets that their comments say how to make."""

from __future__ import annotations

import io

import pytest
from koukan_operator import render_command
from koukan_operator.model.resources import API_VERSION

from tests.support import examples, golden
from tests.support.mail_resources import Document


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_is_valid(name: str) -> None:
    notes = io.StringIO()
    assert render_command.print_plan(examples.documents(name), golden.SETTINGS, io.StringIO(), notes)
    assert [line for line in notes.getvalue().splitlines() if not line.startswith("needs: ")] == []


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_lacks_secrets_only_and_says_so(name: str) -> None:
    text = "".join(path.read_text() for path in (examples.DIRECTORY / name).glob("*.yaml"))
    for _, answer in golden.rendered(examples.documents(name)):
        for missing in answer.missing:
            assert missing.ref.kind == "Secret"
            assert name == "complete" or missing.ref.name == "mail-db-app" or f" {missing.ref.name} " in text


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_claims_what_is_free(name: str) -> None:
    for _, answer in golden.rendered(examples.documents(name)):
        assert all(claim.accepted for claim in answer.claims)


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_goes_to_any_namespace(name: str) -> None:
    for path in (examples.DIRECTORY / name).glob("*.yaml"):
        assert "namespace:" not in path.read_text()


def test_a_chain_of_ones_own_opens_its_sender() -> None:
    """quickstart/mychain.yaml, as the README applies it."""
    answers = dict(golden.rendered(examples.documents("quickstart")))
    claims = answers["KoukanRouter/mail"].claims
    assert [(claim.chain, claim.sender, claim.accepted) for claim in claims] == [("newsletter", "newsletter", True)]
    assert answers["KoukanRouter/mail"].missing == []


def test_every_example_starts_with_what_it_is_for() -> None:
    for path in examples.DIRECTORY.glob("*/*.yaml"):
        assert path.read_text().startswith("# ")


def kinds(documents: list[Document]) -> set[str]:
    return {document["kind"] for document in documents if document["apiVersion"] == API_VERSION}


def test_examples_show_all_kinds() -> None:
    for name in examples.NAMES:
        assert kinds(examples.documents(name)) == {"KoukanRouter", "KoukanGateway", "OutputChain"}
