"""DKIM with mailauth, another implementation: what dkim_sign signs it verifies, and dkim_check verifies what it signs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from koukan.chain.outputs import DkimCheckOutput, DkimStatus
from koukan.config.router import DnsConfig
from koukan.net.dns import Resolver
from tests.support.chains import RecordingSink, make_chain, make_context, make_step, make_transaction
from tests.support.dkim_keys import KeyPair, ed25519_key, rsa_key
from tests.support.mailauth import Mailauth
from tests.support.nameserver import NameServer

pytestmark = pytest.mark.xdist_group("mailauth")

MESSAGES = Path(__file__).parents[1] / "data" / "messages"
ODD = (
    b"From: Ann <ann@example.com>\r\nSubject:\r\nTo:\tbob@example.org ,\r\n\t  carol@example.org \t\r\n"
    b"Date: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <odd@example.com>\r\n\r\n \t\r\n  a  b\t\tc \r\n\r\n\r\n"
)
BODIES = {
    "multipart": (MESSAGES / "multipart.msg").read_bytes(),
    "odd": ODD,
    "without a last line end": ODD[:-6] + b" ",
    "without a body": ODD[: ODD.index(b"\r\n\r\n") + 4],
    "large": ODD + b"a line of a large message\r\n" * 100_000,
}


@pytest.fixture(scope="module")
def mailauth() -> Iterator[Mailauth]:
    with Mailauth() as process:
        yield process


@pytest.fixture(scope="module")
def keys() -> dict[str, KeyPair]:
    return {"rsa": rsa_key(), "ed25519": ed25519_key()}


@pytest.mark.parametrize("name", BODIES)
async def test_what_we_sign(name: str, keys: dict[str, KeyPair], mailauth: Mailauth, tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"domain": "example.com", "selector": selector, "key": key.write(tmp_path / selector)}
        for selector, key in keys.items()
    ]
    sink = RecordingSink()
    chain = make_chain([{"filter": "dkim_sign", "keys": entries}], sink)
    await chain.open(make_transaction()).step(make_step("ann@example.com", ["bob@example.org"], BODIES[name]))
    records = {f"{selector}._domainkey.example.com": key.record for selector, key in keys.items()}
    verdicts = mailauth.verify(sink.bodies[0], records)
    assert [(verdict["domain"], verdict["result"]) for verdict in verdicts] == [("example.com", "pass")] * 2
    changed = sink.bodies[0].replace(b"From: Ann", b"From: Eve")
    assert {verdict["result"] for verdict in mailauth.verify(changed, records)} == {"fail"}


@pytest.mark.parametrize("canonicalization", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
@pytest.mark.parametrize("name", BODIES)
async def test_what_mailauth_signs(
    name: str, canonicalization: str, keys: dict[str, KeyPair], mailauth: Mailauth
) -> None:
    signers = [
        {
            "signingDomain": "example.com",
            "selector": selector,
            "privateKey": key.pem.decode(),
            "algorithm": f"{selector}-sha256",
            "canonicalization": canonicalization,
        }
        for selector, key in keys.items()
    ]
    signed = mailauth.sign(BODIES[name], signTime="2026-01-31T12:00:00Z", signatureData=signers) + BODIES[name]
    async with NameServer("".join(key.zone("example.com", selector) for selector, key in keys.items())) as server:
        context = make_context(Resolver(DnsConfig(nameservers=[server.address])))
        context.now = lambda: datetime(2026, 1, 31, 12, 1, tzinfo=UTC)
        tx = make_transaction()
        chain = make_chain([{"filter": "dkim_check"}], RecordingSink(), context)
        await chain.open(tx).step(make_step("ann@example.com", ["bob@example.org"], signed))
    output = tx.output(DkimCheckOutput)
    assert output is not None
    assert [(result.status, result.reason) for result in output.results] == [(DkimStatus.PASS, None)] * 2
