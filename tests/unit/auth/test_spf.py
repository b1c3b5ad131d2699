"""SPF by vectors: tests/data/spf has a zone and what each check of it must say, by the sections of RFC 7208."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from koukan.auth.spf import Result, Verdict, check_host
from koukan.config.router import DnsConfig
from koukan.net.dns import Resolver
from tests.support.nameserver import NameServer

DATA = Path(__file__).parents[2] / "data" / "spf"


@dataclass(frozen=True)
class Case:
    zone: str
    expected: dict[str, Any]
    client: str
    mail: str
    helo: str
    #: seconds of one lookup
    timeout: float


def load_cases(path: Path) -> list[Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [pytest.param(make_case(document, case), id=f"{path.stem}: {case['it']}") for case in document["cases"]]


def make_case(document: dict[str, Any], case: dict[str, Any]) -> Case:
    given = {"client": "192.0.2.1", "helo": "client.example", "timeout": 10} | document.get("defaults", {}) | case
    expected = {key: case[key] for key in ("result", "mechanism", "explanation", "problem") if key in case}
    return Case(document["zone"], expected, given["client"], given["mail"], given["helo"], given["timeout"])


async def check(resolver: Resolver, client: str, mail: str, helo: str) -> Verdict:
    domain = mail.rpartition("@")[2] or helo
    return await check_host(
        resolver,
        ip_address(client),
        domain,
        mail or f"postmaster@{helo}",
        helo=helo,
        receiver="receiver.example",
        timestamp=1234567890,
    )


@pytest.mark.parametrize("case", [case for path in sorted(DATA.glob("*.yaml")) for case in load_cases(path)])
async def test_vectors(case: Case) -> None:
    async with NameServer(case.zone) as server:
        resolver = Resolver(DnsConfig(nameservers=[server.address], timeout=case.timeout))
        verdict = await check(resolver, case.client, case.mail, case.helo)
    expected = dict(case.expected)
    problem = expected.pop("problem", "")
    seen = {"result": verdict.result.value} | {key: getattr(verdict, key) for key in expected if key != "result"}
    assert seen == expected, verdict
    assert problem in (verdict.problem or ""), verdict
    assert (verdict.problem is not None) == (verdict.result in (Result.TEMPERROR, Result.PERMERROR))
