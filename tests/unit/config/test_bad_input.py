"""What cannot start says so: one line that names file, line, what is wrong and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from koukan.config.files import load_any, load_gateway, load_router
from koukan.errors import ConfigError

ROUTER = """\
global: {mailer_daemon_mailbox: mailer-daemon@example.com}
rest_listener:
  addr: [localhost, 8000]
  session_uri: http://localhost:8000
storage:
  url: sqlite:///koukan.db
  gc_interval: 300
sender:
  - name: ingress
    tag:
      - {name: smtp-mx, output_chain: explode, upstream_tag: smtp-mx-upstream}
      - {name: smtp-mx-upstream, output_chain: deliver}
  - name: submission
    output_chain: deliver
rest_endpoint:
  - {name: gateway, endpoint: "http://localhost:8001/senders/router/transactions", sender: router, tag: outbound}
endpoint:
  - name: explode
    chain:
      - {filter: exploder}
  - name: deliver
    output_handler:
      notification: {sender: submission}
    chain:
      - {filter: message_builder}
      - {filter: received_header}
      - filter: router
        destination: {endpoint: gateway}
      - {filter: rest_output}
"""

GATEWAY = """\
rest_listener:
  addr: [localhost, 8001]
  session_uri: http://localhost:8001
smtp_output:
  hosts:
    outbound: {ehlo_host: gateway.example.com}
smtp_listener:
  services:
    - addr: [localhost, 1025]
      endpoint: mx
      sender: ingress
      tag: smtp-mx
rest_output:
  - name: mx
    endpoint: http://localhost:8000/senders/ingress/transactions
"""


def write(tmp_path: Path, text: str, name: str = "router.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def problems(tmp_path: Path, text: str, name: str = "router.yaml") -> list[str]:
    """The lines of the error, without the directory."""
    load = load_router if name == "router.yaml" else load_gateway
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text, name), {})
    return str(raised.value).replace(f"{tmp_path}/", "").splitlines()


def test_the_files_that_the_cases_start_from_are_fine(tmp_path: Path) -> None:
    for text, name in ((ROUTER, "router.yaml"), (GATEWAY, "gateway.yaml")):
        loaded = load_any(write(tmp_path, text, name), {})
        assert loaded.warnings == loaded.typos == []


def test_the_other_programs_file(tmp_path: Path) -> None:
    listener = "rest_listener: {addr: [localhost, 8000], session_uri: 'http://localhost:8000'}\n"
    with pytest.raises(ConfigError, match=r"must be a gateway\.yaml, but this is a router\.yaml: it has storage"):
        load_gateway(write(tmp_path, f"{listener}storage: {{url: 'sqlite:///x'}}\n"), {})
    with pytest.raises(ConfigError, match=r"must be a router\.yaml, but this is a gateway\.yaml: it has rest_output"):
        load_router(write(tmp_path, f"{listener}rest_output: []\n"), {})


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        # references that lead nowhere
        (
            "{filter: exploder}",
            "{filter: explodor}",
            "router.yaml:20: endpoint[0].chain[0].filter: there is no filter 'explodor'; did you mean 'exploder'?",
        ),
        (
            "output_chain: explode,",
            "output_chain: implode,",
            "router.yaml:11: sender[0].tag[0].output_chain: there is no output chain (endpoint) 'implode'; "
            "did you mean 'explode'?",
        ),
        (
            "destination: {endpoint: gateway}",
            "destination: {endpoint: gatway}",
            "router.yaml:28: endpoint[1].chain[2].destination.endpoint: there is no rest_endpoint 'gatway'; "
            "did you mean 'gateway'?",
        ),
        (
            "notification: {sender: submission}",
            "notification: {sender: bounces}",
            "router.yaml:23: endpoint[1].output_handler.notification.sender: there is no sender 'bounces'; "
            "there are: ingress, submission",
        ),
        (
            "notification: {sender: submission}",
            "notification: {sender: ingress, tag: smtp}",
            "router.yaml:23: endpoint[1].output_handler.notification.tag: there is no tag of sender 'ingress' 'smtp'; "
            "did you mean 'smtp-mx'?",
        ),
        (
            "{filter: rest_output}",
            "{filter: rest_output, static_endpoint: gate}",
            "router.yaml:29: endpoint[1].chain[3].static_endpoint: there is no rest_endpoint 'gate'; did you mean 'gateway'?",
        ),
        (
            ", sender: router, tag: outbound",
            "",
            "router.yaml:28: endpoint[1].chain[2].destination.endpoint: "
            "rest_endpoint 'gateway' cannot take mail: it has no sender",
        ),
        (
            "upstream_tag: smtp-mx-upstream",
            "upstream_tag: smtp-mx",
            "router.yaml:11: sender[0].tag[0]: ingress/smtp-mx ends in an exploder, but the transactions it makes as "
            "ingress/smtp-mx would end there again; set upstream_tag (or upstream_sender) to one whose chain ends in "
            "rest_output",
        ),
        ("    output_chain: deliver\n", "", "router.yaml:13: sender[1]: sender 'submission' needs an output_chain"),
        # names that are taken
        (
            "name: submission",
            "name: ingress",
            "router.yaml:13: sender[1].name: there is another sender 'ingress'; names must be unique",
        ),
        (
            "{name: smtp-mx-upstream,",
            "{name: smtp-mx,",
            "router.yaml:12: sender[0].tag[1].name: there is another tag 'smtp-mx'; names must be unique",
        ),
        (
            "name: deliver\n",
            "name: explode\n",
            "router.yaml:21: endpoint[1].name: there is another endpoint 'explode'; names must be unique",
        ),
        # chains that cannot work
        (
            "      - {filter: rest_output}\n",
            "",
            "router.yaml:27: endpoint[1].chain[2]: the last filter must be rest_output or exploder, or mail goes nowhere",
        ),
        (
            "{filter: message_builder}",
            "{filter: exploder}",
            "router.yaml:25: endpoint[1].chain[0]: exploder ends a chain; nothing may follow it",
        ),
        # types
        (
            "addr: [localhost, 8000]",
            "addr: [localhost, eighty]",
            "router.yaml:3: rest_listener.addr[1]: input should be a valid integer, "
            "unable to parse string as an integer, got 'eighty'",
        ),
        (
            "gc_interval: 300",
            "gc_interval: often",
            "router.yaml:7: storage.gc_interval: input should be a valid number, "
            "unable to parse string as a number, got 'often'",
        ),
        (
            "  session_uri: http://localhost:8000\n",
            "  sesion_uri: http://localhost:8000\n",
            "router.yaml:2: rest_listener.session_uri: is required; there is 'sesion_uri', is that meant?",
        ),
        (
            "  url: sqlite:///koukan.db\n",
            "",
            "router.yaml:5: storage: give exactly one of url and url_file",
        ),
        (
            "{filter: received_header}",
            "{filter: dkim_sign, key: k.pem}",
            "router.yaml:26: endpoint[1].chain[1]: key needs domain and selector",
        ),
        (
            "{filter: received_header}",
            "{received_hostname: x}",
            "router.yaml:26: endpoint[1].chain[1].filter: is required",
        ),
        # variables
        (
            "url: sqlite:///koukan.db",
            "url: ${DATABASE_URL}",
            "router.yaml:6: environment variable 'DATABASE_URL' is not set; "
            "write $${DATABASE_URL} if the text itself is meant",
        ),
    ],
)
def test_router(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert problems(tmp_path, edited(ROUTER, old, new)) == [line]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "      endpoint: mx\n",
            "      endpoint: mxx\n",
            "gateway.yaml:10: smtp_listener.services[0].endpoint: there is no rest_output 'mxx'; did you mean 'mx'?",
        ),
        (
            "addr: [localhost, 1025]",
            "addr: [localhost, 70000]",
            "gateway.yaml:9: smtp_listener.services[0].addr: 70000 is no TCP port; the form is [host, port]",
        ),
        (
            "      tag: smtp-mx\n",
            "      tag: smtp-mx\n      cert: cert.pem\n",
            "gateway.yaml:9: smtp_listener.services[0]: cert and key go together",
        ),
        (
            "{ehlo_host: gateway.example.com}",
            "{ehlo_host: gateway.example.com, protocol: smpt}",
            "gateway.yaml:6: smtp_output.hosts.outbound.protocol: input should be 'smtp' or 'lmtp', got 'smpt'",
        ),
        (
            "{ehlo_host: gateway.example.com}",
            "{ehlo_host: gateway.example.com, chunk_size: 0}",
            "gateway.yaml:6: smtp_output.hosts.outbound.chunk_size: input should be greater than or equal to 1, got 0",
        ),
        (
            "  - name: mx\n",
            "  - {name: mx, endpoint: http://x/}\n  - name: mx\n",
            "gateway.yaml:15: rest_output[1].name: there is another rest_output 'mx'; names must be unique",
        ),
    ],
)
def test_gateway(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert problems(tmp_path, edited(GATEWAY, old, new), "gateway.yaml") == [line]


@pytest.mark.parametrize(
    "addr",
    ["localhost:8000", "[localhost]", "[localhost, -1]", "[localhost, 65536]", "[localhost, true]", "8000", "{}"],
)
def test_an_address_is_a_host_and_a_port(tmp_path: Path, addr: str) -> None:
    [line] = problems(tmp_path, edited(ROUTER, "[localhost, 8000]", addr))
    assert line.startswith("router.yaml:3: rest_listener.addr")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = edited(edited(ROUTER, "{filter: exploder}", "{filter: explodor}"), "{endpoint: gateway}", "{endpoint: x}")
    assert [line.split(": ")[0] for line in problems(tmp_path, text)] == ["router.yaml:20", "router.yaml:28"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sender: [\n  - name: x\n", "router.yaml:2: broken YAML: "),
        ("sender:\n\t- name: x\n", "router.yaml:2: broken YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n  b: 2\n", "router.yaml:2: broken YAML: mapping values are not allowed here"),
        ("a: *nowhere\n", "router.yaml:1: broken YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", "router.yaml:2: broken YAML: "),
        ("a: !!python/object:os.system {}\n", "router.yaml:1: broken YAML: could not determine a constructor"),
        ("a: \x01\n", "router.yaml: broken YAML: "),
        ("storage: {}\nsender: []\nstorage: {}\n", "router.yaml:3: storage: is given twice, first in line 1"),
        ("a: 2026-13-45\n", "router.yaml: broken YAML: "),
        ("a: " + "[" * 10_000, "router.yaml: broken YAML: nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "router.yaml:1: nested more than 50 deep"),
        ("a: &a [*a]\n", "router.yaml:1: nested more than 50 deep"),
        ("", "router.yaml: must be a YAML mapping of stanzas"),
        ("- sender\n", "router.yaml: must be a YAML mapping of stanzas"),
        ("hello\n", "router.yaml: must be a YAML mapping of stanzas"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, line: str) -> None:
    [found] = problems(tmp_path, text)
    assert found.startswith(line)


def test_aliases_of_aliases_do_not_take_the_machine_down(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [line] = problems(tmp_path, "\n".join(lines))
    assert "more than 100000 values" in line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, reason in ((tmp_path / "nowhere.yaml", "No such file"), (tmp_path, "Is a directory"), (binary, "UTF-8")):
        with pytest.raises(ConfigError, match="cannot read the configuration") as raised:
            load_router(str(path), {})
        assert reason in str(raised.value) and str(path) in str(raised.value)


def test_a_file_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is neither router.yaml \(endpoint, .*\) nor gateway.yaml \(rest_output, "):
        load_any(write(tmp_path, "global: {}\n"), {})


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "{filter: message_builder}",
            "{filter: received_header, recieved_hostname: x}",
            "router.yaml:25: unknown key 'endpoint[1].chain[0].recieved_hostname' is ignored; "
            "did you mean 'received_hostname'?",
        ),
        (
            "gc_interval: 300",
            "gc_interval: 300\n  gc_tll: 1",
            "router.yaml:8: unknown key 'storage.gc_tll' is ignored; did you mean 'gc_ttl'?",
        ),
    ],
)
def test_a_slip_in_a_key_is_told_with_a_suggestion(tmp_path: Path, old: str, new: str, line: str) -> None:
    loaded = load_router(write(tmp_path, edited(ROUTER, old, new)), {})
    assert [typo.replace(f"{tmp_path}/", "") for typo in loaded.typos] == [line]


def test_a_key_like_nothing_warns(tmp_path: Path) -> None:
    loaded = load_router(write(tmp_path, ROUTER + "colour: red\n"), {})
    assert loaded.typos == []
    assert [warning.partition(": ")[2] for warning in loaded.warnings] == ["unknown key 'colour' is ignored"]
