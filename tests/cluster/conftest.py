"""What cluster tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.commands import kubectl


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
def install_options() -> Iterator[list[str]]:
    """Options of `helm install`: definitions that are there are taken over; those that a release brings go with it."""

    def found() -> set[str]:
        return {name for name in kubectl("get", "crds", "--output=name").split() if name.endswith(".koukan.io")}

    there = found()
    yield ["--take-ownership"] if there else []
    if not there and found():
        kubectl("delete", *found())
