"""docs/reference/configuration.md: in step with the types, and its examples load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config.base import ConfigModel
from koukan.config.files import load_gateway, load_router
from koukan.config.filters import FilterItem
from koukan.config.gateway import GatewayConfig
from koukan.config.reference import PAGES, write
from koukan.config.reference_files import configuration_page
from koukan.config.router import DnsConfig, RouterConfig
from koukan.net.dns import Resolver
from koukan.router.chains import check_chains
from tests.support.docs import ROOT, blocks

PAGE = "docs/reference/configuration.md"


def models(annotation: Any) -> Iterator[type[ConfigModel]]:
    """Every model within a type, those of filters left out."""
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from models(info.annotation)
    elif annotation != FilterItem:
        for argument in get_args(annotation):
            yield from models(argument)


def test_the_page_is_in_step() -> None:
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    assert written == configuration_page(), "out of step with koukan/config: run `make generate`"


def test_every_page_is_written(tmp_path: Path) -> None:
    write(tmp_path)
    for name in PAGES:
        assert (tmp_path / name).read_bytes() == (ROOT / "docs/reference" / name).read_bytes()


def test_the_router_of_the_page_loads_and_builds(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(blocks(PAGE, "yaml")[0])
    loaded = load_router(str(path), {})
    assert loaded.warnings == loaded.typos == []
    check_chains(Context(loaded.config, Resolver(DnsConfig())), Plugins.load(loaded.config.modules))


def test_the_gateway_of_the_page_loads_and_fits_the_router(tmp_path: Path) -> None:
    for name, text in zip(("router.yaml", "gateway.yaml"), blocks(PAGE, "yaml"), strict=True):
        (tmp_path / name).write_text(text)
    router = load_router(str(tmp_path / "router.yaml"), {}).config
    loaded = load_gateway(str(tmp_path / "gateway.yaml"), {})
    assert loaded.warnings == loaded.typos == []
    gateway = loaded.config
    assert router.rest_endpoint[0].endpoint == f"{gateway.rest_listener.session_uri}/senders/router/transactions"
    assert router.rest_endpoint[0].tag in gateway.smtp_output.hosts
    [service], [sender] = gateway.smtp_listener.services, router.sender
    assert gateway.rest_output[0].endpoint == f"{router.rest_listener.session_uri}/senders/{sender.name}/transactions"
    assert service.sender == sender.name and service.tag in {tag.name for tag in sender.tag or ()}


@pytest.mark.parametrize("model", [RouterConfig, GatewayConfig])
def test_every_key_of_every_stanza_has_a_row_that_says_what_it_means(model: type[ConfigModel]) -> None:
    lines = configuration_page().splitlines()
    for stanza in models(model):
        for name, info in stanza.model_fields.items():
            rows = [line for line in lines if line.startswith(f"| `{info.alias or name}` | ")]
            assert info.description and any(" ".join(info.description.split()) in row for row in rows), (stanza, name)


def test_stanzas_stand_in_the_order_of_the_file() -> None:
    headings = re.findall(r"^###? (.*)$", configuration_page(), re.MULTILINE)
    assert headings[:6] == [
        "router.yaml",
        "`global`",
        "`global.dns`",
        "`rest_listener`",
        "`admin_listener`",
        "`storage`",
    ]
    assert headings.index("gateway.yaml") < headings.index("`smtp_output.hosts.NAME.tls`")
    assert "`sender[].tag[]`" in headings and "`endpoint[].output_handler.retry_params`" in headings


@pytest.mark.parametrize(
    "row",
    [
        "| `dns` | [`global.dns`](#globaldns) |  |  | Name resolution. |",
        "| `rest_listener` | [`rest_listener`](#rest_listener-1) | required |  | Where routers come in. |",
        "| `chain` | list of [filter](filters.md#filters), at least 1 | required |  | The filters. |",
        "| `addr` | `[host, port]` | required |  | Address to listen on. |",
        "| `gc_interval` | number > 0 | `5` | s | How often transactions are looked at, whether they are idle or done. |",
        "| `notification` | `output_chain` |  |  | `output_chain`: bounce as the chain says; null: never. |",
    ],
)
def test_rows_say_type_default_unit_and_meaning(row: str) -> None:
    assert row in configuration_page().splitlines()
