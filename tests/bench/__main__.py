"""The figures: SMTP -> gateway -> router -> gateway -> SMTP sink, 4 KB, 10 sessions, beside Postfix in the same run.

Rounds are interleaved and the median is taken; only the ratio travels between machines. CPU is that of all processes of a
peer, PostgreSQL included; the load generator and the sink are the same for both and counted for neither.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.bench.cpu import cpu_seconds
from tests.bench.postfix import Postfix
from tests.support.house import LOOPBACK, free_port
from tests.support.postgres import DURABLE, PostgresServer

#: messages before anything is measured
WARM_UP = 300
#: seconds that a peer may take to deliver what it has accepted
DELIVERY_TIMEOUT = 120.0


class Peer(Protocol):
    """Something that relays to the sink."""

    port: int

    def start(self) -> Sequence[int]:
        """Start it: the processes whose trees do the work."""
        ...

    def stop(self) -> None: ...


class KoukanPeer:
    """Router, gateway and PostgreSQL, durable, with the configuration that users begin with."""

    def __init__(self, sink: int) -> None:
        self.port = free_port()
        self._sink = sink
        self._directory = Path(tempfile.mkdtemp(prefix="koukan-bench-"))
        self._postgres = PostgresServer(DURABLE)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> Sequence[int]:
        self._postgres.start()
        router, gateway = free_port(), free_port()
        self._run("router", self._router(router, gateway), router)
        self._run("gateway", self._gateway(router, gateway), gateway)
        return [self._postgres.pid, *(process.pid for process in self._processes)]

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)
        self._postgres.remove()

    def _run(self, command: str, document: dict[str, Any], port: int) -> None:
        path = self._directory / f"{command}.yaml"
        path.write_text(yaml.safe_dump(document))
        log = (self._directory / f"{command}.log").open("wb")
        self._processes.append(
            subprocess.Popen([sys.executable, "-m", "koukan.cli.main", command, str(path)], stdout=log, stderr=log)
        )
        log.close()
        wait_for_port(port)

    def _router(self, router: int, gateway: int) -> dict[str, Any]:
        destination = {"endpoint": "gateway", "host_list": [{"host": LOOPBACK, "port": self._sink}]}
        return {
            "rest_listener": {"addr": [LOOPBACK, router], "session_uri": f"http://{LOOPBACK}:{router}"},
            "storage": {"url": self._postgres.url(self._postgres.create_database()), "gc_interval": 60},
            "sender": [
                {
                    "name": "ingress",
                    "tag": [
                        {"name": "smtp-mx", "output_chain": "exploder", "upstream_tag": "deliver"},
                        {"name": "deliver", "output_chain": "deliver"},
                    ],
                }
            ],
            "rest_endpoint": [
                {
                    "name": "gateway",
                    "endpoint": f"http://{LOOPBACK}:{gateway}/senders/r/transactions",
                    "sender": "r",
                    "tag": "out",
                }
            ],
            "endpoint": [
                {"name": "exploder", "chain": [{"filter": "exploder"}]},
                {
                    "name": "deliver",
                    "chain": [
                        {"filter": "received_header", "received_hostname": "mx.bench.example"},
                        {"filter": "router", "destination": destination},
                        {"filter": "rest_output"},
                    ],
                },
            ],
        }

    def _gateway(self, router: int, gateway: int) -> dict[str, Any]:
        return {
            "rest_listener": {"addr": [LOOPBACK, gateway], "session_uri": f"http://{LOOPBACK}:{gateway}"},
            "smtp_output": {"hosts": {"out": {"ehlo_host": "mx.bench.example"}}},
            "rest_output": [{"name": "mx", "endpoint": f"http://{LOOPBACK}:{router}/senders/ingress/transactions"}],
            "smtp_listener": {
                "services": [{"addr": [LOOPBACK, self.port], "endpoint": "mx", "sender": "ingress", "tag": "smtp-mx"}]
            },
        }


class PostfixPeer:
    """Postfix, its queue on disk."""

    def __init__(self, sink: int) -> None:
        self.port = free_port()
        self._postfix = Postfix(self.port, sink)

    def start(self) -> Sequence[int]:
        pid = self._postfix.start()
        wait_for_port(self.port)
        return [pid]

    def stop(self) -> None:
        self._postfix.stop()


@dataclass(frozen=True)
class Figures:
    """One round."""

    rate: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    failed: int
    undelivered: int


def measure(peer: Peer, pids: Sequence[int], sink: int, sessions: int, messages: int, size: int) -> Figures:
    """Send, wait until all of it is at the sink, count."""
    delivered, cpu = sink_count(sink), cpu_seconds(pids)
    started = time.perf_counter()
    result = source(peer.port, sessions, messages, size)
    deadline = time.monotonic() + DELIVERY_TIMEOUT
    while sink_count(sink) - delivered < messages - result["failed"] and time.monotonic() < deadline:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    arrived = sink_count(sink) - delivered
    used = cpu_seconds(pids) - cpu
    return Figures(
        rate=arrived / seconds,
        cpu_ms=1000 * used / max(1, arrived),
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        failed=result["failed"],
        undelivered=messages - result["failed"] - arrived,
    )


def source(port: int, sessions: int, messages: int, size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.load", "source", LOOPBACK]
    arguments = [str(n) for n in (port, sessions, messages, size)]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sink_count(port: int) -> int:
    with socket.create_connection((LOOPBACK, port)) as connection, connection.makefile("rwb") as stream:
        stream.readline()
        stream.write(b"STAT\r\n")
        stream.flush()
        return int(stream.readline().split()[1])


def wait_for_port(port: int, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((LOOPBACK, port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.05)


def run(options: argparse.Namespace) -> dict[str, list[Figures]]:
    sink = free_port()
    sink_process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load", "sink", str(sink)], stdout=subprocess.DEVNULL
    )
    peers: dict[str, Peer] = {"koukan": KoukanPeer(sink)}
    missing = Postfix.missing()
    if missing is None:
        peers["postfix"] = PostfixPeer(sink)
    else:
        print(f"without a peer to compare with: {missing}", file=sys.stderr)
    rounds: dict[str, list[Figures]] = {name: [] for name in peers}
    started: list[Peer] = []
    try:
        wait_for_port(sink)
        pids: dict[str, Sequence[int]] = {}
        for name, peer in peers.items():
            started.append(peer)
            pids[name] = peer.start()
            # To its last delivery, or the leftovers of one peer would count for the other.
            measure(peer, pids[name], sink, options.sessions, WARM_UP, options.size)
        for _ in range(options.rounds):
            for name, peer in peers.items():
                rounds[name].append(measure(peer, pids[name], sink, options.sessions, options.messages, options.size))
    finally:
        for peer in started:
            peer.stop()
        sink_process.terminate()
        sink_process.wait(10)
    return rounds


def show(rounds: dict[str, list[Figures]]) -> None:
    medians: dict[str, dict[str, float]] = {}
    print(f"{'':<10}{'msg/s':>8}{'CPU ms/msg':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'lost':>6}")
    for name, figures in rounds.items():
        row = {
            key: statistics.median(getattr(f, key) for f in figures) for key in ("rate", "cpu_ms", "p50_ms", "p99_ms")
        }
        row["failed"] = sum(f.failed for f in figures)
        row["lost"] = sum(f.undelivered for f in figures)
        medians[name] = row
        print(
            f"{name:<10}{row['rate']:>8.0f}{row['cpu_ms']:>12.2f}{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}"
            f"{row['failed']:>8.0f}{row['lost']:>6.0f}"
        )
    if "postfix" in medians:
        ratio = medians["koukan"]["cpu_ms"] / medians["postfix"]["cpu_ms"]
        rate = medians["koukan"]["rate"] / medians["postfix"]["rate"]
        print(f"koukan / postfix: CPU per message {ratio:.2f}, rate {rate:.2f}")
    print(json.dumps(medians))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10, help="connections at a time; default: %(default)s")
    parser.add_argument("--messages", type=int, default=3000, help="messages per round; default: %(default)s")
    parser.add_argument("--size", type=int, default=4096, help="bytes per message; default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the median counts; default: %(default)s"
    )
    os.environ.setdefault("KOUKAN_LOG_LEVEL", "INFO")  # what users run
    show(run(parser.parse_args()))


if __name__ == "__main__":
    main()
