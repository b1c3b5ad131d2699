"""What tests against a real API server share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import kubectl

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def definitions() -> None:
    """The custom resource definitions, as the repository has them."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for name in ("koukanrouters", "koukangateways", "outputchains"):
        kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}.koukan.io")


@pytest.fixture
def namespace(definitions: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test alone."""
    words = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")
    name = f"t-{words[:40].strip('-')}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--timeout=60s")


@pytest.fixture(scope="module")
def install_options() -> Iterator[list[str]]:
    """Options of `helm install`: definitions that are there are taken over; those that a release brings go with it."""

    def found() -> set[str]:
        return {name for name in kubectl("get", "crds", "--output=name").split() if name.endswith(".koukan.io")}

    there = found()
    yield ["--take-ownership"] if there else []
    if not there and found():
        kubectl("delete", *found())
