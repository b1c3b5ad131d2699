"""A name server for the filters that ask DNS; its zone is the `ZONE` of the test module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from koukan.config.router import DnsConfig
from koukan.net.dns import Resolver
from tests.support.nameserver import NameServer


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[NameServer]:
    async with NameServer(request.module.ZONE) as started:
        yield started


@pytest.fixture
def resolver(server: NameServer) -> Resolver:
    return Resolver(DnsConfig(nameservers=[server.address], timeout=10))
