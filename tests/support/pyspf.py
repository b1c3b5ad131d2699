"""pyspf, an SPF implementation in Python, and the test suite of RFC 7208 in its source package: pip fetches both."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import yaml

from koukan.config.router import DnsConfig
from koukan.net.dns import Answer, Mx, Resolver, Status

VERSION = "2.0.14"
_CACHE = Path(__file__).parents[2] / ".cache" / "pyspf"
_HOME = _CACHE / f"pyspf-{VERSION}"


class Record(NamedTuple):
    """One record of a zone: its type, and its data as the suite writes it."""

    type: str
    data: Any


#: records by lower-cased name; the type `TIMEOUT` alone: no question about the name is answered
Zone = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Case:
    """One check of the suite, and the results and explanation that it allows."""

    name: str
    zone: Zone
    client: str
    helo: str
    mail_from: str
    results: tuple[str, ...]
    explanation: str | None


def install() -> Path:
    """The directory of the unpacked source package. Raises CalledProcessError, with pip's own words."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _HOME.exists():
            options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(_CACHE)]
            command = [sys.executable, "-m", "pip", "download", *options, f"pyspf=={VERSION}"]
            subprocess.run(command, check=True, timeout=180)
            with tarfile.open(_CACHE / f"pyspf-{VERSION}.tar.gz") as archive:
                archive.extractall(_CACHE, filter="data")
    return _HOME


def load_suite(home: Path) -> list[Case]:
    """Every check of the suite."""
    with (home / "test" / "rfc7208-tests.yml").open("rb") as suite:
        return [case for scenario in yaml.safe_load_all(suite) if scenario for case in _cases(scenario)]


def _cases(scenario: dict[str, Any]) -> Iterator[Case]:
    zone = {name.lower(): list(_records(entries)) for name, entries in scenario["zonedata"].items()}
    for name, test in scenario["tests"].items():
        results = test["result"] if isinstance(test["result"], list) else [test["result"]]
        explanation = test.get("explanation")
        yield Case(
            name,
            zone,
            str(test["host"]),
            test["helo"],
            test.get("mailfrom") or "",
            tuple(results),
            None if explanation == "DEFAULT" else explanation,
        )


def _records(entries: Sequence[Any]) -> Iterator[Record]:
    """A record of the old type SPF stands for a TXT record, unless the name has TXT records of its own."""
    records = [Record(*pair) for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    if "TIMEOUT" in entries:
        yield Record("TIMEOUT", None)
    own = any(record.type == "TXT" for record in records)
    for record in records:
        if record.type == "SPF" and not own:
            yield Record("TXT", record.data)
        elif record.type != "SPF" and record.data != "NONE":
            yield record


class ZoneResolver(Resolver):
    """Our resolver's answers from such a zone."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(DnsConfig(nameservers=["127.0.0.1"]))
        self._zone = zone

    async def a(self, name: str) -> Answer[IPv4Address]:
        return self._answer(name, "A", IPv4Address)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        return self._answer(name, "AAAA", IPv6Address)

    async def mx(self, name: str) -> Answer[Mx]:
        return self._answer(name, "MX", lambda data: Mx(data[0], data[1] or "."))

    async def ptr(self, address: IPv4Address | IPv6Address) -> Answer[str]:
        return self._answer(address.reverse_pointer, "PTR", lambda data: f"{data}.")

    async def txt(self, name: str) -> Answer[bytes]:
        return self._answer(name, "TXT", _text)

    def _answer(self, name: str, kind: str, read: Any, aliases: int = 8) -> Answer[Any]:
        key = name.replace("\\\\", "\\").lower().removesuffix(".")
        if any(len(label) > 63 for label in key.split(".")) or key not in self._zone:
            return Answer(Status.NXDOMAIN)
        records = self._zone[key]
        found = [record.data for record in records if record.type == kind]
        if "TIMEOUT" in found or (not found and any(record.type == "TIMEOUT" for record in records)):
            return Answer(Status.TEMPFAIL)
        alias = next((record.data for record in records if record.type == "CNAME"), None)
        if not found and alias is not None and aliases:
            return self._answer(alias, kind, read, aliases - 1)
        return Answer(Status.OK, tuple(map(read, found))) if found else Answer(Status.NODATA)


def _text(data: str | Sequence[str]) -> bytes:
    return "".join([data] if isinstance(data, str) else data).encode("utf-8")


class Pyspf:
    """The implementation, asking a zone instead of DNS."""

    def __init__(self, home: Path) -> None:
        self._module = _load(home / "spf.py")

    def check(self, zone: Zone, client: str, helo: str, mail_from: str) -> str:
        """Its result, as RFC 7208 §2.6 names it."""
        self._module.DNSLookup = lambda name, kind, *rest, **options: self._look_up(zone, name, kind)
        result: str = self._module.query(i=client, s=mail_from, h=helo, strict=True).check()[0]
        return result

    def _look_up(self, zone: Zone, name: str, kind: str) -> Iterator[tuple[tuple[str, str], Any]]:
        records = zone.get(name.lower().removesuffix("."), ())
        found = [record.data for record in records if record.type == kind]
        if "TIMEOUT" in found or (not found and any(record.type == "TIMEOUT" for record in records)):
            raise self._module.TempError("DNS timeout")
        for record in records:
            if record.type == kind:
                yield (name, kind), self._data(record)
            elif record.type == "CNAME":
                yield (name, "CNAME"), record.data

    def _data(self, record: Record) -> Any:
        if record.type == "AAAA":
            return ip_address(record.data).packed
        if record.type == "TXT":
            return (_text(record.data),)
        return tuple(record.data) if record.type == "MX" else record.data


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pyspf", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module
