"""docs/reference/filters.md: in step with the models, and every example of it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from koukan.chain.filter import Context
from koukan.chain.plugins import Plugins
from koukan.config import filters, matchers, routing
from koukan.config.base import ConfigModel
from koukan.config.examples import EXAMPLES
from koukan.config.files import load_router
from koukan.config.reference_filters import filters_page, title
from koukan.config.router import DnsConfig
from koukan.net.dns import Resolver
from koukan.router.chains import check_chains
from tests.support.docs import ROOT, blocks

PAGE = "docs/reference/filters.md"
KEYS = "/etc/koukan/dkim"

_ROUTER: dict[str, Any] = {
    "rest_listener": {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1:1"},
    "storage": {"url": "sqlite:///x", "gc_interval": 60},
    "modules": {
        "sync_filter": {"acme_stamp": "acme_mail.stamp"},
        "recipient_router_policy": {"acme_tenants": "acme_mail.tenants"},
        "transaction_matcher": {"acme_working_hours": "acme_mail.working_hours"},
    },
    "sender": [{"name": "archive", "output_chain": "archive"}],
    "rest_endpoint": [
        {"name": name, "endpoint": f"http://{name}.invalid/", "sender": "router"} for name in ("gateway", "receiver")
    ],
}
_SINK = {"filter": "rest_output", "static_endpoint": "gateway"}


def load_example(text: str, tmp_path: Path) -> None:
    """Load a router with this chain, and build it."""
    items = yaml.safe_load(text.replace(KEYS, str(tmp_path)))
    ends = items[-1]["filter"] in ("exploder", "rest_output")
    document = {
        **_ROUTER,
        "endpoint": [
            {"name": "archive", "chain": [_SINK]},
            {"name": "example", "chain": items if ends else [*items, _SINK]},
        ],
    }
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(document))
    loaded = load_router(str(path))
    assert loaded.warnings == loaded.typos == []
    check_chains(Context(loaded.config, Resolver(DnsConfig())), Plugins.load(loaded.config.modules))


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Signing keys, and the plug-ins of examples/plugins."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugins"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "acme_mail"]:
        monkeypatch.delitem(sys.modules, name)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for domain in ("example.com", "example.org"):
        (tmp_path / f"{domain}.pem").write_bytes(pem)
    return tmp_path


@pytest.mark.parametrize("model", EXAMPLES, ids=title)
def test_every_example_works(model: type[ConfigModel], surroundings: Path) -> None:
    load_example(EXAMPLES[model], surroundings)


def test_every_filter_policy_and_matcher_has_an_example() -> None:
    unions = (filters.FilterItem, routing.Policy, matchers.MatchExpression)
    models = {get_args(member)[0] for union in unions for member in get_args(get_args(union)[0])}
    assert models == set(EXAMPLES)


def test_the_page_shows_every_example() -> None:
    assert blocks(PAGE, "yaml") == [f"{text.strip()}\n" for text in _in_order_of_the_page()]


def _in_order_of_the_page() -> list[str]:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    return [EXAMPLES[m] for m in sorted(EXAMPLES, key=lambda m: page.index(f"\n### {title(m)}\n"))]


def test_the_page_is_in_step() -> None:
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    assert written == filters_page(), "out of step with koukan/config: run `make generate`"


@pytest.mark.parametrize(
    "row",
    [
        "| `dest_port` | integer, 0 to 65535 | `25` |  | Port of those hosts. |",
        "| `data_timeout` | number ≥ 0 | `300` | s | How long to wait for the answer to the data. |",
        "| `tag` | text | required |  | Group of rules; once one of them has matched, the others are skipped. |",
        "| `cidr` | network | required |  | The network, host bits zero. |",
        "| `not` | [match expression](#match-expressions) | required |  | Expression to negate. |",
    ],
)
def test_rows_say_type_default_unit_and_meaning(row: str) -> None:
    assert row in filters_page().splitlines()


def test_a_duration_that_may_be_left_out_has_its_unit_too() -> None:
    rows = [line for line in filters_page().splitlines() if line.startswith("| `rcpt_timeout` |")]
    assert [row.split(" | ")[1:4] for row in rows] == [["number ≥ 0", "", "s"], ["number ≥ 0", "`30`", "s"]]


def test_links_lead_somewhere() -> None:
    page = filters_page()
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= headings
