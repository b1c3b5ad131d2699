"""The existing Koukan's sample topology, its files as they are but for ports, database and name server, with mail in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from koukan.config.files import load_gateway, load_router
from koukan.dev.receiver import Receiver
from koukan.dev.sink import MailSink
from koukan.gateway.app import GatewayApp
from koukan.model import HostPort
from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Submission
from koukan.router.app import RouterApp
from tests.support.docs import ROOT
from tests.support.house import LOOPBACK, eventually, free_port
from tests.support.nameserver import name_server_process
from tests.support.smtp_dialogue import message, send

SAMPLE = ROOT / "tests" / "data" / "sample"
ZONE = """
1.0.0.127.in-addr.arpa  PTR   localhost.test.
localhost.test          A     127.0.0.1
example.net             TXT   "v=spf1 ip4:127.0.0.1 -all"
d                       TXT   "v=spf1 -all"
"""


@dataclass
class Topology:
    """The sample, running."""

    sink: MailSink
    receiver: Receiver
    gateway: GatewayApp
    router: int

    @property
    def mx(self) -> HostPort:
        return self.gateway.listeners[0].address

    @property
    def msa(self) -> HostPort:
        return self.gateway.listeners[1].address


@pytest.fixture
async def topology(tmp_path: Path) -> AsyncIterator[Topology]:
    ports = {str(port): str(free_port()) for port in (8000, 8001, 8002, 3025, 1025, 1587, 1465)}
    async with AsyncExitStack() as running:
        name_server = await running.enter_async_context(name_server_process(ZONE, tmp_path))
        changes = {**ports, "/tmp/koukan.db": str(tmp_path / "koukan.db")}
        changes["global:\n"] = f"global:\n  dns: {{nameservers: ['{name_server}']}}\n"
        sink, receiver = MailSink(), Receiver()
        await sink.start(HostPort(LOOPBACK, int(ports["3025"])))
        running.push_async_callback(sink.stop)
        await receiver.start(HostPort(LOOPBACK, int(ports["8002"])))
        running.push_async_callback(receiver.stop)
        router = RouterApp(load_router(_changed("router.yaml", changes, tmp_path), {}).config)
        await router.start()
        running.push_async_callback(router.stop)
        gateway = GatewayApp(load_gateway(_changed("gateway.yaml", ports, tmp_path), {}).config)
        await gateway.start()
        running.push_async_callback(gateway.stop)
        yield Topology(sink, receiver, gateway, int(ports["8000"]))


def _changed(name: str, changes: dict[str, str], directory: Path) -> str:
    text = (SAMPLE / name).read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (directory / name).write_text(text)
    return str(directory / name)


async def test_ingress_to_smtp_takes_one_recipient_a_message(topology: Topology) -> None:
    replies = await send(topology.mx, "ann@example.net", ["bob@example.com", "carl@example.com"], message("mx"))
    assert [reply.code for reply in replies] == [250, 250, 451, 250]
    [mail] = topology.sink.received
    assert mail.rcpt_to == ("bob@example.com",) and mail.content.endswith(message("mx"))


async def test_ingress_refuses_strangers_and_invalid_senders(topology: Topology) -> None:
    replies = await send(topology.mx, "ann@example.net", ["bob@elsewhere.example"], message())
    assert replies[1].code == 550
    replies = await send(topology.mx, "a..b@example.net", ["bob@example.com"], message())
    assert replies[1].code == 550


async def test_ingress_to_the_application_arrives_parsed_with_what_filters_found(topology: Topology) -> None:
    replies = await send(topology.mx, "ann@example.net", ["bob+x@rest-application.example.com"], message("app"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    [received] = topology.receiver.transactions.values()
    assert received.message is not None and received.message["parts"]["content_type"] == "text/plain"
    # max_inline: 0, so that even the text is a blob
    assert received.blobs["0"] == b"hello\n"
    output = received.filter_output
    assert output["koukan.spf_check_filter.SpfCheckFilter"]["mail_from_result"] == 1
    assert output["koukan.remote_host_filter.RemoteHostFilter"]["fcrdns"] is True
    assert output["koukan.message_validation_filter.MessageValidationFilter"]["status"] == 3
    # The sample's slips in the names of matchers are understood: its rule does match.
    assert "spf" in output["koukan.policy_action_filter.PolicyActionFilter"]["matched_rules"]


async def test_submission_by_smtp_and_rest_goes_to_our_own_domain_by_the_short_circuit(
    topology: Topology, tmp_path: Path
) -> None:
    replies = await send(topology.msa, "ann@d", ["bob@rest-application.example.com"], message("msa", sender="ann@d"))
    assert [reply.code for reply in replies] == [250, 250, 250]
    eml = tmp_path / "rest.eml"
    eml.write_bytes(message("rest", sender="ann@d"))
    clients = HttpClients()
    submission = Submission(clients, f"http://{LOOPBACK}:{topology.router}/senders/submission/transactions")
    progress = await submission.submit("ann@d", "bob@rest-application.example.com", Message(eml=eml))
    async for _ in submission.follow(progress, 20):
        continue
    await clients.close()
    assert progress.document.final_attempt_reason == "upstream response success"
    await eventually(lambda: len(topology.receiver.transactions) == 2)
    for received in topology.receiver.transactions.values():
        assert received.envelope["smtp_meta"]["ehlo_host"] == "localhost"
        assert received.envelope["remote_host"] == [LOOPBACK, 8000]
