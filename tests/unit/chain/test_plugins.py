"""Plug-ins: loaded and checked at start, and the worked example of docs/plugins.md."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from koukan.chain.engine import Chain
from koukan.chain.filter import Context, Filter
from koukan.chain.filters.router import RouteGuard
from koukan.chain.plugins import Plugins
from koukan.chain.registry import build_filter
from koukan.config.files import load_router
from koukan.config.router import ChainConfig, ModulesConfig
from koukan.errors import ConfigError
from koukan.model import Response
from koukan.router.chains import check_chains
from tests.support.chains import MESSAGE, RecordingSink, make_context, make_step, make_transaction
from tests.support.docs import ROOT, blocks

EXAMPLE = ROOT / "examples" / "plugins"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module `own` to put functions into."""
    made = types.ModuleType("own")
    monkeypatch.setitem(sys.modules, "own", made)
    return made


def load_filter(target: str, name: str = "mine") -> Plugins:
    return Plugins.load(ModulesConfig(sync_filter={name: target}))


def chain_config(*items: Mapping[str, Any]) -> ChainConfig:
    return ChainConfig.model_validate({"name": "c", "chain": [*items, {"filter": "rest_output"}]})


class Nothing(Filter):
    pass


# --- loading --------------------------------------------------------------------------------------------------------------


def test_a_filter_gets_its_options_and_the_context(module: types.ModuleType) -> None:
    seen: list[Any] = []

    def factory(options: Mapping[str, Any], context: Context) -> Filter:
        seen.append((options, context))
        return Nothing()

    module.__dict__["factory"] = factory
    context, config = make_context(), chain_config({"filter": "mine", "a": 1, "b": {"c": [2]}})
    assert isinstance(build_filter(config.chain[0], context, load_filter("own")), Nothing)
    assert seen == [({"a": 1, "b": {"c": [2]}}, context)]


def test_the_function_may_have_another_name(module: types.ModuleType) -> None:
    module.__dict__["make"] = lambda options, context: None
    assert load_filter("own:make").filter("mine", {}, make_context()) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such.module", "modules.sync_filter.mine: cannot import 'no.such.module': ModuleNotFoundError: "),
        ("own:", "modules.sync_filter.mine: must be `package.module` or `package.module:function`, got 'own:'"),
        ("own:gone", "modules.sync_filter.mine: 'own' has no function 'gone'; expected `def gone(options, context)"),
        ("own:number", "modules.sync_filter.mine: 'own' has no function 'number'; expected `def number(options, con"),
        ("own:one", "own:one(options) cannot be called; expected `def one(options, context) -> Filter | None`"),
        ("own:waits", "own:waits must not be async; expected `def waits(options, context) -> Filter | None`"),
    ],
)
def test_what_cannot_work_is_an_error_that_says_what_would(module: types.ModuleType, target: str, message: str) -> None:
    async def waits(options: Any, context: Any) -> None:
        return None

    module.__dict__.update(number=1, one=lambda options: None, waits=waits)
    with pytest.raises(ConfigError) as raised:
        load_filter(target)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_module_that_raises_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot import 'raises_at_import': RuntimeError: not today"):
        load_filter("raises_at_import")


def test_every_kind_has_its_signature(module: types.ModuleType) -> None:
    module.__dict__["wrong"] = lambda: None
    stanzas = {
        "recipient_router_policy": "def wrong(options, context) -> RoutingPolicy",
        "transaction_matcher": "def wrong(options, tx, recipient) -> bool | None",
    }
    for stanza, signature in stanzas.items():
        with pytest.raises(ConfigError) as raised:
            Plugins.load(ModulesConfig.model_validate({stanza: {"mine": "own:wrong"}}))
        assert f"modules.{stanza}.mine: " in str(raised.value)
        assert signature in str(raised.value)


def test_built_in_names_are_taken(module: types.ModuleType) -> None:
    module.__dict__["factory"] = lambda options, context: None
    taken = [
        ("sync_filter", "router"),
        ("recipient_router_policy", "address_list"),
        ("transaction_matcher", "smtp_tls"),
    ]
    for stanza, name in taken:
        with pytest.raises(ConfigError, match=f"modules.{stanza}.{name}: '{name}' is a built-in "):
            Plugins.load(ModulesConfig.model_validate({stanza: {name: "own:factory"}}))


def test_a_factory_that_returns_something_else_is_an_error(module: types.ModuleType) -> None:
    module.__dict__["factory"] = lambda options, context: "filter"
    with pytest.raises(
        ConfigError, match=r"filter 'mine' must return a koukan\.chain\.filter\.Filter or None, not 'filter'"
    ):
        load_filter("own").filter("mine", {}, make_context())
    plugins = Plugins.load(ModulesConfig(recipient_router_policy={"mine": "own"}))
    with pytest.raises(ConfigError, match=r"must return an object with `async def route\(self, tx, recipient\)`"):
        plugins.policy("mine", {}, make_context())


def test_a_factory_that_raises_is_an_error_at_its_place(module: types.ModuleType) -> None:
    def factory(options: Mapping[str, Any], context: Context) -> Filter:
        raise ValueError("needs\na colour")

    module.__dict__["factory"] = factory
    context = make_context(endpoint=[{"name": "c", "chain": [{"filter": "mine"}, {"filter": "rest_output"}]}])
    with pytest.raises(ConfigError) as raised:
        check_chains(context, load_filter("own"))
    assert str(raised.value) == ("endpoint[0].chain[0]: filter 'mine' does not take its options: needs a colour")


# --- the samples of the existing Koukan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello", "hello_filter", "whatever"])
async def test_the_samples_are_recognised_under_any_name(name: str) -> None:
    modules = ModulesConfig(
        sync_filter={name: "koukan.hello_filter"},
        recipient_router_policy={name: "koukan.hello_policy"},
        transaction_matcher={name: "koukan.hello_matcher:match"},
    )
    config = chain_config(
        {"filter": name, "any": "option"},
        {"filter": "router", "policy": {"name": name, "any": "option"}},
        {"filter": "policy_action", "tag": "t", "match": {"matcher": name, "any": "option"}, "action": "REJECT"},
    )
    plugins, context = Plugins.load(modules), make_context()
    links = [build_filter(item, context, plugins) for item in config.chain[:-1]]
    assert links[0] is None
    tx = make_transaction()
    result = (
        await Chain(config, [f for f in links if f is not None], RecordingSink())
        .open(tx)
        .step(make_step("ann@a.example", ["bob@b.example"]))
    )
    assert result.mail == Response(550, "5.6.0 message rejected t")
    assert not tx.recipients[0].routed


# --- the worked example ---------------------------------------------------------------------------------------------------


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    """The chain of examples/plugins/router.yaml, before a sink that records."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    loaded = load_router(str(EXAMPLE / "router.yaml"))
    assert loaded.warnings == loaded.typos == []
    plugins, context = Plugins.load(loaded.config.modules), Context(loaded.config)
    config = loaded.config.endpoint[0]
    links = [build_filter(item, context, plugins) for item in config.chain[:-1]]
    yield Chain(config, [*(f for f in links if f is not None), RouteGuard()], RecordingSink())
    for name in [n for n in sys.modules if n.partition(".")[0] == "acme_mail"]:
        del sys.modules[name]


async def test_the_example_stamps_and_routes(example: Chain) -> None:
    tx = make_transaction()
    result = await example.open(tx).step(make_step("ann@a.example", ["bob@blue.example"], MESSAGE))
    assert result.data is not None
    assert result.data.ok
    assert isinstance(example.sink, RecordingSink)
    assert example.sink.bodies == [b"X-Acme-Department: sales\r\n" + MESSAGE]
    assert tx.route is not None
    assert tx.route.endpoint.name == "blue"
    assert tx.route.options == {"send_filter_output": True}
    assert not example.waits_for_body


async def test_the_example_rejects(example: Chain) -> None:
    closed = await example.open(make_transaction()).step(make_step("ann@marketing.example"))
    assert closed.mail == Response(550, "5.7.1 this department is closed")
    rcpts = await example.open(make_transaction()).step(
        make_step("ann@a.example", ["bob@green.example", "bob@black.example"])
    )
    assert [r.code for r in rcpts.rcpt] == [551, 550]


@pytest.mark.parametrize(("hour", "open_"), [(7, False), (8, True), (17, True), (18, False)])
def test_the_example_knows_working_hours(
    example: Chain, monkeypatch: pytest.MonkeyPatch, hour: int, open_: bool
) -> None:
    working_hours = sys.modules["acme_mail.working_hours"]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 3, 4, hour, 30, tzinfo=UTC)  # a Wednesday

    monkeypatch.setattr(working_hours, "datetime", Clock)
    assert working_hours.match({"from": 8, "to": 18}, make_transaction(), None) is open_


def test_the_page_shows_the_example_as_it_is() -> None:
    shown = blocks("docs/plugins.md", "python")
    files = [EXAMPLE / "acme_mail" / f"{name}.py" for name in ("stamp", "tenants", "working_hours")]
    assert shown == [file.read_text(encoding="utf-8") for file in files]
    chain = blocks("docs/plugins.md", "yaml")[-1]
    assert (EXAMPLE / "router.yaml").read_text(encoding="utf-8").endswith(chain)


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("async def on_recipient(self, tx, recipient): ...", "on_recipient is no hook"),
        ("async def on_message(self, tx, body): ...", "hooks are on_mail, on_rcpt, on_body, on_end"),
        ("async def on_mails(self, tx, mail): ...", "did you mean 'on_mail'"),
        ("def on_mail(self, tx, mail_from): ...", "on_mail must be async; expected `async def on_mail(self, tx: "),
        ("async def on_rcpt(self, tx): ...", "on_rcpt(self, tx) cannot be called; expected `async def on_rcpt"),
        ("async def on_body(self, tx, body, more): ...", "on_body(self, tx, body, more) cannot be called"),
    ],
)
def test_hooks_that_would_never_be_called_do_not_start(
    hook: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"""
from koukan.chain.filter import Filter

class Stamp(Filter):
    {hook}

def factory(options, context):
    return Stamp()
"""
    (tmp_path / "bad_hooks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bad_hooks", raising=False)
    plugins = Plugins.load(ModulesConfig(sync_filter={"stamp": "bad_hooks"}))
    with pytest.raises(ConfigError, match=re.escape(text)):
        plugins.filter("stamp", {}, make_context())
