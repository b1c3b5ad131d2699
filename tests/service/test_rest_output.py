"""rest_output: which host a transaction goes to, what is sent along, and when the next one is tried (rest-api.md §7.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from koukan.chain.outputs import DnsResolutionOutput, DnsStatus, SpfCheckOutput, SpfStatus
from koukan.chain.transaction import Route, Transaction
from koukan.config import filters
from koukan.config.router import RestEndpoint
from koukan.model import HostPort, Response, StepResult, Upstream
from koukan.rest import remote
from koukan.rest.http import HttpClients
from koukan.rest.output import HOST_LIMIT, RestOutputSink
from tests.support.chains import MESSAGE, make_context, make_step, make_transaction
from tests.support.oldserver import OK, OldServer, Seen

#: opens the sink for a transaction; keywords are options of rest_output, `config` stanzas of router.yaml
Open = Callable[..., Upstream]
HOSTS = [HostPort(f"192.0.2.{n}", 25) for n in range(1, 9)]
TEMPORARY = {"code": 450, "message": "4.4.1 connection refused"}
PERMANENT = {"code": 550, "message": "5.7.1 go away"}


@pytest.fixture
async def open_(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    monkeypatch.setattr(remote, "POLL_SPACING", 0.02)
    clients = HttpClients()

    def upstream(tx: Transaction, config: Mapping[str, Any] | None = None, **options: Any) -> Upstream:
        typed = filters.RestOutput.model_validate({"filter": "rest_output", "rcpt_timeout": 10, **options})
        return RestOutputSink(typed, make_context(**(config or {})), clients).open(tx)

    yield upstream
    await clients.close()


def routed(server: OldServer, *hosts: HostPort, **options: Any) -> Transaction:
    tx = make_transaction()
    endpoint = RestEndpoint(name="gateway", endpoint=server.url, sender="x", tag="out")
    tx.route = Route(endpoint, hosts, options)
    return tx


async def envelope(upstream: Upstream) -> StepResult:
    return await upstream.step(make_step("ann@a.example", ["bob@b.example"]))


async def test_an_application_can_know_a_repetition(open_: Open) -> None:
    async with OldServer() as server:
        for earlier in (0, 0, 1):
            tx = routed(server)
            tx.id, tx.earlier_attempts = "1-abc", earlier
            await envelope(open_(tx))
        sent = [(seen.headers["koukan-transaction"], seen.headers["koukan-attempt"]) for seen in server.sent("POST")]
        assert [pair for pair in sent if pair] == [("1-abc", "1"), ("1-abc", "1"), ("1-abc", "2")]


def by_host(server: OldServer, answers: Mapping[str, Mapping[str, Any] | None]) -> None:
    """The answer to MAIL for each host at once; `None` is silence."""

    async def intercept(seen: Seen) -> web.StreamResponse | None:
        if seen.method != "POST" or seen.path.endswith("/cancel"):
            return None
        host = seen.json["remote_host"]
        answer = answers.get(host[0], OK)
        if answer is None:
            await asyncio.get_running_loop().create_future()
        rcpt = [answer] if answer == OK else []
        document = {"mail_response": answer, "rcpt_to": [{}], "rcpt_response": rcpt, "remote_host": host}
        headers = {"etag": "1", "location": "/transactions/T"}
        return web.json_response({k: v for k, v in document.items() if v}, status=201, headers=headers)

    server.intercept = intercept


def tried(server: OldServer) -> list[str]:
    return [seen.json["remote_host"][0] for seen in server.sent("POST") if seen.path.startswith("/senders")]


async def test_the_first_host_that_takes_it_gets_it(open_: Open) -> None:
    async with OldServer() as server:
        by_host(server, {"192.0.2.1": TEMPORARY, "192.0.2.2": TEMPORARY})
        tx = routed(server, *HOSTS[:4])
        result = await envelope(open_(tx))
        assert result.mail == Response(250, "ok") and result.rcpt == [Response(250, "ok")]
        assert tried(server) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"] and tx.next_hop == HOSTS[2]
        assert sum(seen.path.endswith("/cancel") for seen in server.sent("POST")) == 2


async def test_a_permanent_answer_is_the_answer(open_: Open) -> None:
    async with OldServer() as server:
        by_host(server, {"192.0.2.1": PERMANENT})
        result = await envelope(open_(routed(server, *HOSTS[:3])))
        assert result.mail == Response(550, "5.7.1 go away") and result.rcpt[0].code == 550
        assert tried(server) == ["192.0.2.1"]


async def test_the_last_hosts_answer_is_the_answer_and_there_are_not_too_many(open_: Open) -> None:
    async with OldServer() as server:
        by_host(server, {host.host: TEMPORARY for host in HOSTS})
        result = await envelope(open_(routed(server, *HOSTS)))
        assert result.mail == Response(450, "4.4.1 connection refused") and result.rcpt[0].temporary
        assert len(tried(server)) == HOST_LIMIT < len(HOSTS)


async def test_a_refused_recipient_is_no_reason_to_ask_elsewhere(open_: Open) -> None:
    async with OldServer(rcpt=[TEMPORARY]) as server:
        result = await envelope(open_(routed(server, *HOSTS[:3])))
        assert result.rcpt[0].code == 450 and len(tried(server)) == 1


async def test_a_silent_host_gets_its_share_of_the_time_only(open_: Open) -> None:
    async with OldServer() as server:
        by_host(server, {"192.0.2.1": None})
        started = time.monotonic()
        result = await envelope(open_(routed(server, *HOSTS[:2]), rcpt_timeout=2))
        assert result.mail is not None and result.mail.ok
        assert 0.9 < time.monotonic() - started < 1.9
        assert tried(server) == ["192.0.2.1", "192.0.2.2"]


async def test_the_data_goes_where_the_envelope_went(open_: Open) -> None:
    async with OldServer() as server:
        upstream = open_(routed(server, *HOSTS[:2]))
        await envelope(upstream)
        result = await upstream.step(make_step(body=MESSAGE))
        assert result.data == Response(250, "ok") and server.stored == MESSAGE
        [created] = server.sent("POST")
        assert created.json["sender"] == {"name": "x", "tag": "out"} and "filter_output" not in created.json


@pytest.mark.parametrize(
    ("status", "code"), [(None, 550), (DnsStatus.OK, 550), (DnsStatus.NX, 550), (DnsStatus.TEMP, 450)]
)
async def test_nowhere_to_go(open_: Open, status: DnsStatus | None, code: int) -> None:
    async with OldServer() as server:
        tx = routed(server)
        if status in (None, DnsStatus.OK):
            tx.route = None
        else:
            tx.add_output(DnsResolutionOutput(resolution_result=status))
        upstream = open_(tx)
        result = await envelope(upstream)
        assert [result.mail and result.mail.code, result.rcpt[0].code] == [code, code]
        data = await upstream.step(make_step(body=MESSAGE))
        assert data.data is not None and data.data.code == code
        await upstream.heartbeat()
        await upstream.cancel()
        assert server.requests == []


async def test_a_static_endpoint_takes_everything(open_: Open) -> None:
    async with OldServer() as server, OldServer() as other:
        static = {"static_endpoint": other.url, "static_remote_host": {"host": "192.0.2.99", "port": 2525}}
        assert (await envelope(open_(routed(server, HOSTS[0]), **static))).rcpt[0].ok
        assert server.requests == []
        assert other.sent("POST")[0].json["remote_host"] == ["192.0.2.99", 2525]
        named = {"rest_endpoint": [{"name": "there", "endpoint": other.url, "sender": "y"}]}
        await envelope(open_(routed(server), named, static_endpoint="there"))
        assert other.sent("POST")[1].json["sender"] == {"name": "y"}


async def test_a_short_circuit_shows_what_its_sender_says(open_: Open) -> None:
    own = {"name": "x", "tag": [{"name": "out", "remote_host": "127.0.0.1", "smtp_meta": {"ehlo_host": "localhost"}}]}
    async with OldServer() as server:
        endpoint = {"name": "gateway", "endpoint": server.url, "sender": "x", "tag": "out"}
        await envelope(open_(routed(server), {"sender": [own], "rest_endpoint": [endpoint]}))
        document = server.sent("POST")[0].json
        assert document["remote_host"] == ["127.0.0.1", 8000] and document["smtp_meta"]["ehlo_host"] == "localhost"


async def test_what_filters_found_is_sent_when_the_route_says_so_and_again_when_it_has_changed(open_: Open) -> None:
    async with OldServer() as server:
        tx = routed(server, send_filter_output=True)
        tx.add_output(SpfCheckOutput(SpfStatus.PASS))
        upstream = open_(tx)
        await envelope(upstream)
        assert SpfCheckOutput.key in server.sent("POST")[0].json["filter_output"]
        tx.add_output(DnsResolutionOutput(resolution_result=DnsStatus.OK))
        await upstream.step(make_step(body=MESSAGE))
        [patched] = server.sent("PATCH")
        assert set(patched.json["filter_output"]) == {SpfCheckOutput.key, DnsResolutionOutput.key}
        assert server.requests.index(patched) < server.requests.index(server.sent("PUT")[0])
