"""`koukan config convert`: resources that mean what the files mean, shown by rendering them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from koukan_operator.convert import Conversion, chain_name, convert
from koukan_operator.render_command import Plain

import koukan.dev
from koukan.cli.main import main
from koukan.config.files import load_gateway, load_router
from koukan.config.gateway import GatewayConfig
from koukan.config.router import RouterConfig
from tests.support import golden

DEV = Path(koukan.dev.__file__).parent
PORTS = ("ROUTER_PORT", "GATEWAY_PORT", "RECEIVER_PORT", "SINK_PORT", "MX_PORT", "MSA_PORT", "SMTPS_PORT")
ENVIRONMENT = {name: str(20000 + index) for index, name in enumerate(PORTS)} | {"DIRECTORY": "/srv/koukan"}
POD = {"POD_IP": "10.0.0.7"}

ROUTER = """
global: {mailer_daemon_mailbox: bounces@example.com, drain_timeout: 1.5, dequeue: false, max_message_size: 33554432,
  dns: {nameservers: [192.0.2.53], timeout: 2}}
rest_listener: {addr: [0.0.0.0, 8443], cert: tls/router.crt, key: tls/router.key,
  session_uri: https://router.example.com:8443, chunk_size: 65536}
admin_listener: {addr: [0.0.0.0, 9102]}
storage: {url: sqlite:////srv/koukan.db, gc_interval: 60}
modules: {sync_filter: {greylist: acme.greylist}, transaction_matcher: {hours: acme.hours}}
logging: {version: 1, loggers: {}}
sender:
- {name: news, output_chain: Out_Going, retry: output_chain, notification: output_chain}
- {name: mx, tag: [{name: smtp, output_chain: exploder}]}
rest_endpoint:
- {name: app, endpoint: "https://app.example.com/mail", sender: koukan, verify: ca/app.pem,
   options: {receive_parsing: {max_inline: 1024}}}
- {name: lab, endpoint: "https://lab.example.com/mail", sender: koukan, verify: false}
- {name: self, endpoint: "https://router.example.com:8443/senders/mx/transactions", sender: mx, tag: smtp}
endpoint:
- name: exploder
  chain: [{filter: exploder, output_chain: Out_Going}]
- name: Out_Going
  output_handler: {retry_params: {max_attempts: null, deadline: null}, notification: {sender: news}}
  chain:
  - {filter: message_builder}
  - {filter: greylist, Window: 300, nested: {a: [1]}}
  - {filter: dkim, key: keys/a.pem, domain: example.com, selector: a, keys: [
      {domain: example.org, selector: b, key: other/a.pem}]}
  - {filter: spf_check, domains: [example.net]}
  - {filter: policy_action, tag: t, mode: PER_RCPT, action: [[1, REJECT], [9, LOG]],
     match: {any: [{not: {matcher: num_rcpts, max_rcpts: 3}}, {matcher: hours, From: 9},
       {matcher: koukan.spf_check_filter.SpfCheckFilter, mail_from_result: spf_pass}]}}
  - {filter: relay_auth, allowlist: [192.0.2.0/24, "2001:db8::/32"]}
  - {filter: router, policy: {name: address_list, domains: [example.com], destination: {endpoint: app}}}
  - {filter: router, destination: {}, dry_run: true}
  - {filter: rest_output, verify: ca/app.pem, rcpt_timeout: 0.5, chunk_size: 1000}
"""
GATEWAY = """
global: {drain_timeout: 30}
rest_listener: {addr: [0.0.0.0, 8001], session_uri: "http://gateway.example.com:8001", gc_interval: 2}
smtp_output:
  hosts:
    out: {ehlo_host: mail.example.com, timeout: 60, tls: {mode: verify, ca_file: ca/partner.pem}}
    store: {ehlo_host: mail.example.com, protocol: lmtp}
rest_output:
- {name: Main, endpoint: "https://router.example.com:8443/senders/mx/transactions", chunk_size: 4096}
- {name: away, endpoint: "https://away.example.com/senders/x/transactions", verify: ca/away.pem}
smtp_listener:
  services:
  - {addr: [0.0.0.0, 25], endpoint: Main, sender: mx, tag: smtp, limits: {max_connections: 7, max_message_size: 1048576}}
  - {addr: [0.0.0.0, 465], endpoint: away, sender: x, cert: tls/mx.crt, key: tls/mx.key, smtps: true,
     auth_secrets: users.json, proxy_protocol_timeout: 2.5, delay_reject: false, rcpt_timeout: 9}
"""


def secrets(conversion: Conversion) -> list[dict[str, Any]]:
    """The Secrets that the notes ask for."""
    keys: dict[str, set[str]] = {}
    for note in conversion.notes:
        words = note.split()
        if "generic" in words:
            given = {word.split("=")[1] for word in words if word.startswith("--from")}
            keys[words[words.index("generic") + 1]] = given
        elif "tls" in words:
            keys[words[words.index("tls") + 1]] = {"tls.crt", "tls.key"}
    return [
        {"kind": "Secret", "metadata": {"name": name, "namespace": "mail"}, "stringData": dict.fromkeys(each, "x")}
        for name, each in keys.items()
    ]


def rendered(conversion: Conversion, directory: Path) -> tuple[RouterConfig | None, GatewayConfig | None]:
    """What the operator makes of the resources, as the programs load it."""
    text = yaml.dump_all(conversion.resources, Dumper=Plain)
    documents = [*yaml.safe_load_all(text), *secrets(conversion)]
    router: RouterConfig | None = None
    gateway: GatewayConfig | None = None
    for name, answer in golden.rendered(documents):
        assert (name, answer.missing, answer.problems) == (name, [], [])
        data = next(m["data"] for m in answer.manifests if m["kind"] == "ConfigMap")
        ((file, content),) = data.items()
        (directory / file).write_text(content)
        if file == "router.yaml":
            router = load_router(str(directory / file), POD).config
        else:
            gateway = load_gateway(str(directory / file), POD).config
    return router, gateway


def renamed(value: Any) -> Any:
    """Names of chains as objects of Kubernetes have them."""
    if isinstance(value, dict):
        return {k: chain_name(v) if k == "output_chain" and v else renamed(v) for k, v in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


#: what is elsewhere in the cluster: addresses, and files
ELSEWHERE = {
    "addr",
    "session_uri",
    "service_uri",
    "cert",
    "url",
    "url_file",
    "auth_secrets",
    "ca_file",
    "admin_listener",
}


def meaning(config: RouterConfig | GatewayConfig) -> Any:
    """The effective configuration, without what is elsewhere in the cluster."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {k: cut(v) for k, v in value.items() if k not in ELSEWHERE}
            return {k: "FILE" if k in ("key", "verify") and isinstance(v, str) else v for k, v in kept.items()}
        return [cut(item) for item in value] if isinstance(value, list) else value

    document = renamed(cut(config.model_dump(mode="json")))
    for chain in document.get("endpoint", ()):
        chain["name"] = chain_name(chain["name"])
    if "endpoint" in document:
        document["endpoint"].sort(key=lambda chain: str(chain["name"]))
    document["rest_listener"].pop("key")
    return document


def load(tmp_path: Path, router: str, gateway: str) -> tuple[RouterConfig, GatewayConfig]:
    for name, text in (("router.yaml", router), ("gateway.yaml", gateway)):
        (tmp_path / name).write_text(text)
    files = tmp_path / "router.yaml", tmp_path / "gateway.yaml"
    return load_router(str(files[0]), ENVIRONMENT).config, load_gateway(str(files[1]), ENVIRONMENT).config


def assert_same_meaning(router: RouterConfig, gateway: GatewayConfig, tmp_path: Path) -> Conversion:
    conversion = convert(router, gateway, names=("mail", "edge"), namespace="mail")
    there, out = rendered(conversion, tmp_path)
    assert there is not None
    assert out is not None
    before, after = meaning(router), meaning(there)
    for stanza in (before, after):
        for endpoint in stanza["rest_endpoint"]:
            endpoint["endpoint"] = endpoint["endpoint"].partition("/senders/")[2] or endpoint["endpoint"]
            endpoint["verify"] = False if endpoint["verify"] is False else None
    assert after == before
    before, after = meaning(gateway), meaning(out)
    names = [service["endpoint"] for service in after["smtp_listener"]["services"]]
    outputs = {stanza["name"]: stanza for stanza in before["rest_output"]}
    services = before["smtp_listener"]["services"]
    # Every listener has a rest_output of its own, called as it is.
    before["rest_output"] = [{**outputs[s["endpoint"]], "name": n} for s, n in zip(services, names, strict=True)]
    for service, name in zip(services, names, strict=True):
        service["endpoint"] = name
    for stanza in (before, after):
        for output in stanza["rest_output"]:
            output["endpoint"] = output["endpoint"].partition("/senders/")[2]
    assert after == before
    return conversion


def test_the_sample_topology_keeps_its_meaning(tmp_path: Path) -> None:
    router, gateway = load(tmp_path, (DEV / "router.yaml").read_text(), (DEV / "gateway.yaml").read_text())
    conversion = assert_same_meaning(router, gateway, tmp_path)
    endpoints = {e["name"]: e for e in conversion.resources[0]["spec"]["restEndpoints"]}
    assert endpoints["gateway"]["gatewayRef"] == {"name": "edge"}
    assert endpoints["short_circuit"]["routerRef"] == {"name": "mail"}
    assert endpoints["receiver"]["url"].startswith("http://127.0.0.1:")


def test_every_kind_of_option_keeps_its_meaning(tmp_path: Path) -> None:
    router, gateway = load(tmp_path, ROUTER, GATEWAY)
    conversion = assert_same_meaning(router, gateway, tmp_path)
    kinds = [f"{resource['kind']}/{resource['metadata']['name']}" for resource in conversion.resources]
    assert kinds == ["KoukanRouter/mail", "OutputChain/exploder", "OutputChain/out-going", "KoukanGateway/edge"]


def test_notes_say_which_secrets_to_make(tmp_path: Path) -> None:
    router, gateway = load(tmp_path, ROUTER, GATEWAY)
    notes = convert(router, gateway, names=("mail", "edge"), namespace="mail").notes
    create = "kubectl -n mail create secret"
    assert f"{create} tls mail-tls --cert=tls/router.crt --key=tls/router.key" in notes
    files = "--from-file=app.pem=ca/app.pem --from-file=a.pem=keys/a.pem --from-file=1-a.pem=other/a.pem"
    assert f"{create} generic mail-files {files}" in notes
    files = "--from-file=away.pem=ca/away.pem --from-file=users.json=users.json --from-file=partner.pem=ca/partner.pem"
    assert f"{create} generic edge-files {files}" in notes
    assert all("sqlite" not in note for note in notes)


def test_what_means_nothing_is_left_out_and_said(tmp_path: Path) -> None:
    router, gateway = load(
        tmp_path,
        """
        rest_listener: {addr: [127.0.0.1, 8000], session_uri: "http://127.0.0.1:8000"}
        storage: {url: "sqlite:////srv/koukan.db"}
        rest_endpoint: [{name: dead, endpoint: "http://x"}]
        """,
        """
        rest_listener: {addr: [127.0.0.1, 8001], session_uri: "http://127.0.0.1:8001"}
        admin_listener: {addr: [127.0.0.1, 80]}
        rest_output: [{name: r, endpoint: "http://127.0.0.1:8000/senders/s/transactions"}]
        smtp_listener: {services: [{addr: [127.0.0.1, 1025], endpoint: r, sender: s, auth_secrets: users.json}]}
        """,
    )
    conversion = convert(router, gateway, names=("mail", "edge"), namespace="mail")
    assert [note for note in conversion.notes if "kubectl" not in note] == [
        "rest_endpoint 'dead' has no sender and could take no mail; it is left out",
        "storage.gc_interval was not set; finished transactions are now collected every 5 minutes",
        "listener r had auth_secrets without a certificate, which offers no AUTH; it is left out",
        "admin_listener: port 80 cannot be taken without privileges; the default is used",
    ]
    assert "auth" not in conversion.resources[-1]["spec"]["listeners"][0]


def test_the_command_prints_resources_that_apply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    files = [str(DEV / "router.yaml"), str(DEV / "gateway.yaml")]
    assert main(["config", "convert", *files, "--router", "r", "--gateway", "g", "-n", "post"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# kubectl -n post create secret generic r-database ")
    names = [(d["metadata"]["namespace"], d["metadata"]["name"]) for d in yaml.safe_load_all(text)]
    assert names[0] == ("post", "r")
    assert names[-1] == ("post", "g")


def test_the_command_refuses_two_routers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "router.yaml").write_text(ROUTER)
    path = str(tmp_path / "router.yaml")
    assert main(["config", "convert", path, path]) == 2
    assert capsys.readouterr().err == f"error: {path}: is a second router.yaml; convert one at a time\n"


def test_the_command_refuses_chains_that_would_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
    rest_listener: {addr: [127.0.0.1, 8000], session_uri: "http://127.0.0.1:8000"}
    storage: {url: "sqlite:////srv/koukan.db", gc_interval: 60}
    endpoint:
    - {name: out_going, chain: [{filter: rest_output}]}
    - {name: Out-Going, chain: [{filter: rest_output}]}
    """
    (tmp_path / "router.yaml").write_text(text)
    assert main(["config", "convert", str(tmp_path / "router.yaml")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "'out_going' and 'Out-Going' would both be OutputChain out-going; rename one" in said.err
