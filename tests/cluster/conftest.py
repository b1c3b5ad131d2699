"""What cluster tests share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.commands import kubectl
from tests.support.mail_resources import apply_definitions


def _definitions() -> list[str]:
    names = kubectl("get", "crds", "--output=name").split()
    return [name for name in names if name.endswith(".koukan.io")]


@pytest.fixture(scope="module")
def install_options() -> Iterator[list[str]]:
    """Options of `helm install`: definitions that are there are taken over; those that a test brings go with it."""
    there = _definitions()
    yield ["--take-ownership"] if there else []
    if not there and (brought := _definitions()):
        kubectl("delete", "--ignore-not-found", *brought)


@pytest.fixture(scope="module")
def definitions() -> None:
    """The custom resource definitions, as the repository has them."""
    apply_definitions()


@pytest.fixture
def namespace(definitions: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test alone."""
    words = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")
    name = f"{words[:40].strip('-')}-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    yield name
    # Its end takes ten seconds that no other test has to wait for.
    kubectl("delete", "namespace", name, "--wait=false")
