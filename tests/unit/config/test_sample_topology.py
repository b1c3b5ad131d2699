"""A file in the shape of the existing Koukan's sample, with all its traps, starts unchanged and does what it says."""

from __future__ import annotations

import pytest

from koukan.chain.engine import Chain
from koukan.chain.filter import Context
from koukan.chain.filters.router import RouteGuard
from koukan.chain.outputs import PolicyActionOutput, SpfCheckOutput, SpfStatus
from koukan.chain.plugins import Plugins
from koukan.chain.registry import build_filter
from koukan.config.files import load_router
from koukan.config.filters import FilterOptions
from koukan.config.router import ChainConfig, DnsConfig
from koukan.model import HostPort
from koukan.net.dns import Resolver
from koukan.router.chains import check_chains
from tests.support.chains import RecordingSink, make_step, make_transaction
from tests.support.docs import ROOT

SAMPLE = str(ROOT / "tests" / "data" / "sample" / "router.yaml")


def test_it_loads_and_every_filter_is_built() -> None:
    loaded = load_router(SAMPLE, {})
    assert loaded.warnings == loaded.typos == []
    check_chains(Context(loaded.config, Resolver(DnsConfig())), Plugins.load(loaded.config.modules))


def chain(name: str, *kinds: str) -> Chain:
    """A chain of the sample, only the filters of these names, before a sink that records."""
    config = load_router(SAMPLE, {}).config
    plugins, context = Plugins.load(config.modules), Context(config)
    found = config.chain(name)
    assert isinstance(found, ChainConfig)
    items: list[FilterOptions] = [item for item in found.chain[:-1] if item.filter in kinds]
    links = [build_filter(item, context, plugins) for item in items]
    return Chain(found, [*(f for f in links if f is not None), RouteGuard()], RecordingSink())


@pytest.mark.parametrize(
    ("address", "endpoint", "hosts"),
    [
        ("bob@example.com", "gateway", (HostPort("fake_smtpd", 3025),)),
        ("bob@rest-application.example.com", "receiver", ()),
        ("bob+x@rest-application.example.com", "receiver", ()),
        ("eve@rest-application.example.com", None, ()),
        ("bob@elsewhere.example", None, ()),
    ],
)
async def test_ingress_routes(address: str, endpoint: str | None, hosts: tuple[HostPort, ...]) -> None:
    tx = make_transaction()
    result = await chain("ingress", "router").open(tx).step(make_step("ann@a.example", [address]))
    assert result.rcpt[0].code == (550 if endpoint is None else 250)
    assert (tx.route.endpoint.name if tx.route else None) == endpoint
    assert (tx.route.hosts if tx.route else ()) == hosts


@pytest.mark.parametrize(
    ("address", "endpoint", "hosts"),
    [
        ("bob@d", "short_circuit", ()),
        ("bob@elsewhere.example", "gateway", (HostPort("elsewhere.example", 25),)),
    ],
)
async def test_submission_routes(address: str, endpoint: str, hosts: tuple[HostPort, ...]) -> None:
    tx = make_transaction()
    await chain("submission", "router").open(tx).step(make_step("ann@a.example", [address]))
    assert tx.route is not None
    assert tx.route.endpoint.name == endpoint
    assert tx.route.hosts == hosts


async def test_the_slip_in_a_matchers_name_matches_now() -> None:
    tx = make_transaction()
    tx.add_output(SpfCheckOutput(SpfStatus.PASS))
    await chain("ingress", "policy_action").open(tx).step(make_step("ann@a.example", ["bob@example.com"]))
    found = tx.output(PolicyActionOutput)
    assert found is not None
    assert "spf" in found.matched_rules
