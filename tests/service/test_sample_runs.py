"""The existing Koukan's sample topology, its files as they are but for ports, database and name server, with mail in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from koukan.rest.submission import Message
from tests.support.house import LOOPBACK, eventually
from tests.support.samples import Topology, running_sample
from tests.support.smtp_dialogue import message, send

ZONE = """
1.0.0.127.in-addr.arpa  PTR   localhost.test.
localhost.test          A     127.0.0.1
example.net             TXT   "v=spf1 ip4:127.0.0.1 -all"
d                       TXT   "v=spf1 -all"
"""


@pytest.fixture
async def topology(tmp_path: Path) -> AsyncIterator[Topology]:
    async with running_sample("router.yaml", ZONE, tmp_path) as topology:
        yield topology


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
    progress = await topology.submit("ann@d", "bob@rest-application.example.com", Message(eml=eml))
    assert progress.document.final_attempt_reason == "upstream response success"
    await eventually(lambda: len(topology.receiver.transactions) == 2)
    for received in topology.receiver.transactions.values():
        assert received.envelope["smtp_meta"]["ehlo_host"] == "localhost"
        assert received.envelope["remote_host"] == [LOOPBACK, 8000]
