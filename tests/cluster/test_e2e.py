"""One command and mail flows: the chart with its demo on a real node, as a user tries it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import smtplib
import uuid
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.support.commands import CommandFailed, get, helm, kubectl, lines_of, port_forward, run

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CHART = str(ROOT / "charts" / "koukan")
MYCHAIN = ROOT / "examples" / "quickstart" / "mychain.yaml"
NAMESPACE = "mail-e2e"
HERE = f"--namespace={NAMESPACE}"
RESOURCES = "koukanrouters,koukangateways,outputchains"
DATABASE_IMAGE = "localhost/koukan-test-postgresql:dev"
DEMO = ("--set=demo.enabled=true", f"--set=demo.postgresql.image={DATABASE_IMAGE}")
SUBMISSION = "http://mail:8000/senders/submission/transactions"
#: seconds in which a Service leads to new pods only
ROUTES_TIMEOUT = 15
#: seconds to build or load an image, to install, and for one mail
IMAGE_TIMEOUT, INSTALL_TIMEOUT, MAIL_TIMEOUT = 900, 400, 60

#: run in a container: what is there that should not be, and the other way round
LOOK_AROUND = """
import importlib.util, json, os, pathlib, shutil
site = pathlib.Path(next(iter(importlib.util.find_spec("koukan").submodule_search_locations))).parent
sources = [path for package in ("koukan", "aiohttp", "pydantic") for path in (site / package).rglob("*.py")]
print(json.dumps({
    "uid": os.getuid(),
    "uncompiled": [str(path) for path in sources if not os.path.exists(importlib.util.cache_from_source(path))],
    "tools": [tool for tool in ("cc", "gcc", "make", "/opt/venv/bin/pip") if shutil.which(tool)],
    "cached": [path for path in ("/root/.cache/pip", "/src") if os.path.exists(path)],
}))
"""


@pytest.fixture(scope="module")
def images() -> None:
    """The images that the chart's defaults name, and a PostgreSQL, on the nodes."""
    build, load = (shlex.split(os.environ.get(name, "")) for name in ("IMAGE_BUILD", "IMAGE_LOAD"))
    if not build or not load:
        pytest.fail("IMAGE_BUILD and IMAGE_LOAD are not set: `make test-cluster` finds out what they are")
    version = yaml.safe_load((Path(CHART) / "Chart.yaml").read_text())["appVersion"]
    built = []
    for name, options in {
        f"localhost/koukan:{version}": ["--target=koukan", str(ROOT)],
        f"localhost/koukan-operator:{version}": ["--target=operator", str(ROOT)],
        DATABASE_IMAGE: [str(ROOT / "tests" / "cluster" / "images" / "postgresql")],
    }.items():
        run(*build, f"--tag={name}", *options, timeout=IMAGE_TIMEOUT)
        built.append(name)
    run(*load, *built, timeout=IMAGE_TIMEOUT)


@pytest.fixture(scope="module")
def demo(images: None, install_options: list[str]) -> Iterator[None]:
    """The release, in a namespace that enforces the `restricted` level."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    try:
        install("install", *install_options)
        yield
    finally:
        helm("uninstall", "koukan", HERE, "--ignore-not-found", "--wait")
        kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")


def install(command: str, *options: str) -> None:
    """Install or upgrade; what the cluster knows goes into the failure."""
    try:
        helm(command, "koukan", CHART, HERE, *DEMO, "--wait", *options, timeout=INSTALL_TIMEOUT)
    except CommandFailed as error:
        error.add_note(kubectl("get", f"pods,{RESOURCES}", HERE, "--output=wide"))
        error.add_note(kubectl("logs", "deployment/koukan", HERE, "--tail=60"))
        error.add_note(kubectl("get", "events", HERE, "--sort-by=.lastTimestamp"))
        raise


def message(sender: str, rcpt: str) -> EmailMessage:
    found = EmailMessage()
    found["From"], found["To"], found["Subject"] = sender, rcpt, f"Test {uuid.uuid4()}"
    found.set_content("Hello.\n")
    return found


def submit(port: int, mail: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example.net", timeout=MAIL_TIMEOUT) as client:
        client.send_message(mail)


async def arrived(peer: str, subject: str) -> dict[str, Any]:
    """What the sink or receiver says of the mail with this subject; waits for it."""
    follow = ("kubectl", "logs", HERE, "--follow", f"deployment/koukan-demo-{peer}")
    async with lines_of(*follow) as lines, asyncio.timeout(MAIL_TIMEOUT):
        async for line in lines:
            event: dict[str, Any] = orjson.loads(line)
            if event["event"] == "mail" and event["subject"] == subject:
                return event
    raise AssertionError(f"the log of {peer} ended without {subject!r}")


def send(url: str, sender: str, rcpt: str) -> str:
    """By REST, from a pod of the cluster; answers the subject. Fails unless the mail is delivered."""
    subject = f"Test {uuid.uuid4()}"
    options = [f"--url={url}", f"--from={sender}", f"--to={rcpt}", f"--subject={subject}", "--text=Hello."]
    kubectl("exec", HERE, "deployment/koukan-demo-receiver", "--", "koukan", "send", *options)
    return subject


async def opened(url: str, sender: str, rcpt: str) -> str:
    """Send, once the sender is known behind the Service: its rules follow a rollout by a second or two."""
    async with asyncio.timeout(ROUTES_TIMEOUT):
        while True:
            try:
                return await asyncio.to_thread(send, url, sender, rcpt)
            except CommandFailed as error:
                if "unknown sender" not in error.output:
                    raise
                await asyncio.sleep(0.5)


async def test_all_pods_are_ready(demo: None) -> None:
    pods = [pod for pod in get("pods", HERE)["items"] if pod["status"]["phase"] != "Succeeded"]
    names = {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods}
    assert {"koukan-operator", "koukan-router", "koukan-gateway", "koukan-demo-postgresql"} <= names
    for pod in pods:
        ready = [each["status"] for each in pod["status"]["conditions"] if each["type"] == "Ready"]
        assert ready == ["True"], pod["metadata"]["name"]
    kubectl("wait", HERE, "--for=condition=Ready", "--timeout=1s", "koukanrouter/mail", "koukangateway/edge")


async def test_mail_by_smtp_arrives_at_the_sink(demo: None) -> None:
    mail = message("ann@example.com", "bob@elsewhere.example")
    async with port_forward(NAMESPACE, "service/edge", 587) as port:
        await asyncio.to_thread(submit, port, mail)
    event = await arrived("sink", mail["subject"])
    assert (event["mail_from"], event["rcpt_to"]) == ("ann@example.com", ["bob@elsewhere.example"])


async def test_mail_from_outside_arrives_at_the_application_parsed(demo: None) -> None:
    mail = message("ann@elsewhere.example", "bob@example.com")
    async with port_forward(NAMESPACE, "service/edge", 25) as port:
        await asyncio.to_thread(submit, port, mail)
    event = await arrived("receiver", mail["subject"])
    assert event["rcpt_to"] == ["bob@example.com"]


async def test_mail_from_outside_to_other_domains_is_refused(demo: None) -> None:
    mail = message("ann@elsewhere.example", "bob@elsewhere.example")
    async with port_forward(NAMESPACE, "service/edge", 25) as port:
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="550"):
            await asyncio.to_thread(submit, port, mail)


async def test_mail_by_rest_arrives_at_the_sink(demo: None) -> None:
    subject = await asyncio.to_thread(send, SUBMISSION, "ann@example.com", "bob@elsewhere.example")
    event = await arrived("sink", subject)
    assert event["rcpt_to"] == ["bob@elsewhere.example"]


async def test_a_chain_that_is_applied_opens_a_sender(demo: None) -> None:
    kubectl("apply", HERE, "--filename", str(MYCHAIN))
    kubectl("wait", HERE, "--for=condition=Accepted", "--timeout=60s", "outputchain/newsletter")
    kubectl("rollout", "status", HERE, "deployment/mail", "--timeout=120s")
    url = "http://mail:8000/senders/newsletter/transactions"
    subject = await opened(url, "news@example.com", "bob@elsewhere.example")
    assert await arrived("sink", subject)


def test_images_are_complete_and_hold_nothing_else(demo: None) -> None:
    """Bytecode of everything, since nothing can be written later; no compiler, no pip of its own, no cache."""
    for deployment in ("koukan", "koukan-demo-receiver"):
        said = kubectl("exec", HERE, f"deployment/{deployment}", "--", "python", "-c", LOOK_AROUND)
        assert json.loads(said) == {"uid": 10001, "uncompiled": [], "tools": [], "cached": []}


def test_sigterm_reaches_the_program(demo: None) -> None:
    """A pod whose program does not hear it is killed after 30 s."""
    pod = get("pods", HERE, "--selector=app.kubernetes.io/name=koukan-demo-receiver")["items"][0]["metadata"]["name"]
    kubectl("delete", HERE, f"pod/{pod}", "--timeout=10s")
    kubectl("rollout", "status", HERE, "deployment/koukan-demo-receiver", "--timeout=60s")


async def test_helm_test(demo: None) -> None:
    said = helm("test", "koukan", HERE, timeout=INSTALL_TIMEOUT)
    assert said.count("Phase:          Succeeded") == 2


async def test_upgrade_leaves_the_mail_flow_alone(demo: None) -> None:
    def pods() -> set[str]:
        selector = "app.kubernetes.io/managed-by=koukan-operator"
        return {pod["metadata"]["uid"] for pod in get("pods", HERE, f"--selector={selector}")["items"]}

    before = pods()
    await asyncio.to_thread(install, "upgrade", "--set=podAnnotations.upgraded=yes")
    assert pods() == before
    subject = await asyncio.to_thread(send, SUBMISSION, "ann@example.com", "bob@elsewhere.example")
    assert await arrived("sink", subject)


async def test_uninstall_takes_the_demo_and_leaves_what_is_mine(demo: None) -> None:
    kubectl("apply", HERE, "--filename", str(MYCHAIN))
    helm("uninstall", "koukan", HERE, "--wait", timeout=INSTALL_TIMEOUT)
    demos = ("koukanrouter/mail", "koukangateway/edge", "deployment/mail", "deployment/edge")
    kubectl("wait", HERE, "--for=delete", "--timeout=60s", *demos)
    left = get(RESOURCES, HERE)["items"]
    assert [each["metadata"]["name"] for each in left] == ["newsletter"]
    assert len(get("crds", "--selector=app.kubernetes.io/instance=koukan")["items"]) == 3
