"""Which certificates a REST endpoint is verified with: its own setting, else that of rest_output."""

from __future__ import annotations

import pytest

from koukan.chain.filter import Context
from koukan.chain.transaction import Route
from koukan.config.filters import RestOutput
from koukan.config.router import RestEndpoint, RouterConfig
from koukan.rest.http import HttpClients, Peer
from koukan.rest.output import RestOutputSink
from tests.support.chains import make_step, make_transaction


class Asked(Exception):
    """The connection pool that would have been used."""


class Clients(HttpClients):
    def peer(self, url: str, verify: bool | str = True, authorization: str | None = None) -> Peer:
        raise Asked(verify)


@pytest.mark.parametrize(
    ("endpoint", "sink", "expected"),
    [(None, True, True), (None, "/ca.crt", "/ca.crt"), ("/own.crt", "/ca.crt", "/own.crt"), (False, True, False)],
)
async def test_the_endpoint_decides_before_the_sink(
    endpoint: bool | str | None, sink: bool | str, expected: bool | str
) -> None:
    listener = {"addr": ["127.0.0.1", 0], "session_uri": "http://127.0.0.1"}
    config = RouterConfig.model_validate({"rest_listener": listener, "storage": {"url": "sqlite:////x"}})
    options = RestOutput(filter="rest_output", verify=sink)
    output = RestOutputSink(options, Context(config), Clients())
    tx = make_transaction()
    to = RestEndpoint(name="app", endpoint="https://app.example.com/mail", sender="koukan", verify=endpoint)
    tx.route = Route(to, (), {})
    with pytest.raises(Asked) as asked:
        await output.open(tx).step(make_step("a@b.example", ["c@d.example"]))
    assert asked.value.args == (expected,)
