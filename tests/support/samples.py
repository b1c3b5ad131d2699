"""The sample topologies of tests/data/sample, running: their files as they are but for ports, database, name server and CA."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from koukan.config.files import load_gateway, load_router
from koukan.dev.files import prepare
from koukan.dev.receiver import Receiver
from koukan.dev.sink import MailSink
from koukan.gateway.app import GatewayApp
from koukan.model import HostPort
from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Progress, Submission
from koukan.router.app import RouterApp
from tests.support.docs import ROOT
from tests.support.house import LOOPBACK, free_port
from tests.support.nameserver import name_server_process

SAMPLE = ROOT / "tests" / "data" / "sample"


@dataclass
class Topology:
    """A sample, running."""

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

    async def submit(self, mail_from: str, rcpt_to: str, message: Message) -> Progress:
        """A message to the submission sender over REST, followed to its end."""
        clients = HttpClients()
        submission = Submission(clients, f"http://{LOOPBACK}:{self.router}/senders/submission/transactions")
        progress = await submission.submit(mail_from, rcpt_to, message)
        async for _ in submission.follow(progress, 20):
            continue
        await clients.close()
        return progress


@asynccontextmanager
async def running_sample(router_file: str, zone: str, directory: Path) -> AsyncIterator[Topology]:
    """Router, gateway, mail sink and application of a sample, with DNS from `zone`."""
    prepare(directory)
    ports = {str(port): str(free_port()) for port in (8000, 8001, 8002, 3025, 1025, 1587, 1465)}
    async with AsyncExitStack() as running:
        name_server = await running.enter_async_context(name_server_process(zone, directory))
        changes = {**ports, "/tmp/koukan.db": str(directory / "koukan.db"), "localhost.crt": str(directory / "tls.crt")}
        changes["global:\n"] = f"global:\n  dns: {{nameservers: ['{name_server}']}}\n"
        sink, receiver = MailSink(), Receiver()
        await sink.start(HostPort(LOOPBACK, int(ports["3025"])))
        running.push_async_callback(sink.stop)
        await receiver.start(HostPort(LOOPBACK, int(ports["8002"])))
        running.push_async_callback(receiver.stop)
        router = RouterApp(load_router(_changed(router_file, changes, directory), {}).config)
        await router.start()
        running.push_async_callback(router.stop)
        gateway = GatewayApp(load_gateway(_changed("gateway.yaml", ports, directory), {}).config)
        await gateway.start()
        running.push_async_callback(gateway.stop)
        yield Topology(sink, receiver, gateway, int(ports["8000"]))


def _changed(name: str, changes: Mapping[str, str], directory: Path) -> str:
    text = (SAMPLE / name).read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (directory / name).write_text(text)
    return str(directory / name)
