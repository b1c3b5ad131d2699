"""The tables of exploder-output-retries.md §6.2: what an SMTP client is answered, and what the router keeps.

The next hop is the mail sink, whose local parts ask for failures. Every case runs over real sockets: SMTP to the gateway,
REST to the router, REST to the gateway, SMTP to the sink.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House, eventually
from tests.support.smtp_dialogue import Dialogue, message, send

MSA, MX = "msa", "mx"


@dataclass(frozen=True)
class Case:
    """Recipients, the codes of their replies, the code of the data's reply (None: DATA is refused, in the class of its
    recipients), what follows."""

    mode: str
    rcpts: Sequence[str]
    rcpt_codes: Sequence[int]
    data_code: int | None
    #: text in the reply to the data
    text: str = ""
    #: recipients that the router keeps to try again
    kept: int = 0
    #: recipients that are delivered to at once
    delivered: int = 0
    #: bounces that the sender gets
    bounced: int = 0
    sender: str = "ann"

    def __str__(self) -> str:
        return f"{self.mode}-{self.sender}-{'-'.join(self.rcpts)}"


ONE_RECIPIENT = [
    # the next hop takes it: its answers, word for word
    Case(MSA, ["bob"], [250], 250, "Message accepted for delivery", delivered=1),
    Case(MX, ["bob"], [250], 250, "Message accepted for delivery", delivered=1),
    # RCPT fails for now: a submission server keeps it, a relay passes the answer on
    Case(MSA, ["rcpttemp"], [250], 250, "store&forward", kept=1),
    Case(MX, ["rcpttemp"], [450], None),
    # RCPT fails for good
    Case(MSA, ["rcptperm"], [550], None),
    Case(MX, ["rcptperm"], [550], None),
    # RCPT is not answered in time
    Case(MSA, ["rcpttimeout"], [250], 250, "store&forward", kept=1),
    Case(MX, ["rcpttimeout"], [450], None),
    # MAIL fails: its class is the recipient's, never the blanket 503
    Case(MSA, ["bob"], [250], 250, "store&forward", kept=1, sender="mailtemp"),
    Case(MX, ["bob"], [450], None, sender="mailtemp"),
    Case(MSA, ["bob"], [550], None, sender="mailperm"),
    Case(MX, ["bob"], [550], None, sender="mailperm"),
    # the data fails
    Case(MSA, ["datatemp"], [250], 250, "store&forward", kept=1),
    Case(MX, ["datatemp"], [250], 450, "data temp"),
    Case(MSA, ["dataperm"], [250], 550, "data perm"),
    Case(MX, ["dataperm"], [250], 550, "data perm"),
    Case(MSA, ["datatimeout"], [250], 250, "store&forward", kept=1),
    # unlike the table's: whether it was delivered nobody knows, and a client that was told 450 would bring it again
    Case(MX, ["datatimeout"], [250], 250, "store&forward", kept=1),
]

SEVERAL_RECIPIENTS = [
    # one class: the first one's answer
    Case(MSA, ["bob", "carl"], [250, 250], 250, "Exploder same response", delivered=2),
    Case(MX, ["bob", "carl"], [250, 250], 250, "Exploder same response", delivered=2),
    Case(MX, ["datatemp1", "datatemp2"], [250, 250], 450, "Exploder same response"),
    Case(MSA, ["dataperm1", "dataperm2"], [250, 250], 550, "Exploder same response"),
    Case(MX, ["dataperm1", "dataperm2"], [250, 250], 550, "Exploder same response"),
    # a submission server makes success of temporary failures before it compares
    Case(MSA, ["bob", "datatemp"], [250, 250], 250, "Exploder same response", delivered=1, kept=1),
    Case(MSA, ["datatemp1", "datatemp2"], [250, 250], 250, "Exploder same response", kept=2),
    Case(MSA, ["rcpttemp", "bob"], [250, 250], 250, "Exploder same response", delivered=1, kept=1),
    # classes differ: no single answer is true, so that the router takes responsibility
    Case(MX, ["bob", "datatemp"], [250, 250], 250, "store&forward", delivered=1, kept=1),
    Case(MSA, ["bob", "dataperm"], [250, 250], 250, "store&forward", delivered=1, bounced=1),
    Case(MX, ["bob", "dataperm"], [250, 250], 250, "store&forward", delivered=1, bounced=1),
    Case(MX, ["datatemp", "dataperm"], [250, 250], 250, "store&forward", kept=1, bounced=1),
    Case(MX, ["bob", "datatimeout"], [250, 250], 250, "store&forward", delivered=1, kept=1),
    # a recipient that failed has no say in what becomes of the others
    Case(MX, ["rcptperm", "bob"], [550, 250], 250, "Message accepted", delivered=1),
    Case(MX, ["rcpttemp", "bob"], [450, 250], 250, "Message accepted", delivered=1),
    Case(MX, ["rcpttemp", "datatemp"], [450, 250], 450, "data temp"),
    Case(MSA, ["rcptperm", "dataperm"], [550, 250], 550, "data perm"),
    Case(MX, ["rcpttemp", "rcptperm"], [450, 550], None),
]


@pytest.fixture
async def house(tmp_path: Path, sqlite_url: str) -> AsyncIterator[House]:
    async with House(tmp_path, sqlite_url) as house:
        yield house


@pytest.mark.parametrize("case", [*ONE_RECIPIENT, *SEVERAL_RECIPIENTS], ids=str)
async def test_table(house: House, case: Case) -> None:
    sender = f"{case.sender}@example.net"
    async with Dialogue.open(house.msa if case.mode == MSA else house.mx) as dialogue:
        replies = await dialogue.envelope(sender, [f"{rcpt}@example.com" for rcpt in case.rcpts])
        assert [reply.code for reply in replies] == [250, *case.rcpt_codes]
        answer = await dialogue.data(message())
    assert answer.code == (case.data_code or min(case.rcpt_codes))
    assert case.text in answer.message

    # What was promised by a 250 is on record before it is said.
    depth = (await house.router.store.stats()).depth
    assert depth >= case.kept + case.bounced
    await house.arrived(case.delivered + case.bounced)
    bounces = [mail for mail in house.sink.received if not mail.mail_from]
    assert len(bounces) == case.bounced
    assert all(mail.rcpt_to == (sender,) for mail in bounces)
    assert len(house.sink.received) == case.delivered + case.bounced


async def test_a_permanent_failure_after_store_and_forward_is_engaged_becomes_a_bounce(house: House) -> None:
    replies = await send(house.msa, "ann@example.net", ["rcpttemp@example.com"], message())
    assert [reply.code for reply in replies] == [250, 250, 250]
    await house.sink.stop()
    house.sink.fail("rcpttemp", "550 5.1.1 moved away")
    await house.start_sink()
    await house.arrived(1)
    assert house.sink.received[0].mail_from == "" and house.sink.received[0].rcpt_to == ("ann@example.net",)


async def test_a_next_hop_that_is_down_is_a_temporary_failure_for_a_relay_and_kept_by_a_submission_server(
    house: House,
) -> None:
    await house.sink.stop()
    relayed = await send(house.mx, "ann@example.net", ["bob@example.com"], message())
    assert [reply.code for reply in relayed] == [250, 450, 450]
    kept = await send(house.msa, "ann@example.net", ["bob@example.com"], message("kept"))
    assert [reply.code for reply in kept] == [250, 250, 250] and "store&forward" in kept[-1].message

    await house.start_sink()
    await house.arrived(1)
    assert house.sink.received[0].subject == "kept"


async def test_retries_of_the_upstream_sender_do_not_repeat_what_the_client_was_told(
    tmp_path: Path, sqlite_url: str
) -> None:
    def retry(document: dict[str, Any]) -> None:
        document["sender"][0]["tag"][1] |= {"retry": "output_chain", "notification": "output_chain"}

    async with House(tmp_path, sqlite_url, retry) as house:
        replies = await send(house.mx, "ann@example.net", ["datatemp@example.com"], message())
        assert [reply.code for reply in replies] == [250, 250, 450]
        replies = await send(house.mx, "ann@example.net", ["dataperm@example.com"], message())
        assert [reply.code for reply in replies] == [250, 250, 550]
        await eventually(lambda: not house.router.dispatcher.busy, 5)
        assert (await house.router.store.stats()).depth == 0 and not house.sink.received


async def test_a_client_that_vanishes_leaves_no_transaction_behind(house: House) -> None:
    for rcpts in ([], ["bob"], ["rcpttimeout"]):
        async with Dialogue.open(house.mx) as dialogue:
            dialogue.writer.write(b"MAIL FROM:<ann@example.net>\r\n")
            for rcpt in rcpts:
                dialogue.writer.write(f"RCPT TO:<{rcpt}@example.com>\r\n".encode())
            await dialogue.reply()
            dialogue.writer.transport.abort()
    await eventually(lambda: not house.gateway.ingress and not house.gateway.service.busy, 5)
    await eventually(lambda: not house.router.dispatcher.busy, 5)
    assert not house.sink.received
