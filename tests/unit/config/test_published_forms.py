"""What users write by the published configuration page means the same as what the existing Koukan's code reads."""

from __future__ import annotations

from pathlib import Path

from koukan.config import filters
from koukan.config.files import load_gateway, load_router
from koukan.config.references import child_chain, effective_sender
from koukan.config.router import RouterConfig
from tests.support.docs import ROOT

PAGE = """\
rest_listener: {addr: [localhost, 8000], session_uri: "http://localhost:8000"}
storage: {url: "postgresql+psycopg://koukan@db/koukan", gc_interval: 60}
sender:
  - name: submission
    output_chain: submission_exploder
    retry: output_chain
    notification: output_chain
    tag:
      - {name: quiet, retry: null, notification: null}
      - {name: notification, output_chain: submission}
rest_endpoint:
  - {name: gateway, endpoint: "http://localhost:8001/senders/router/transactions", sender: router, tag: outbound}
endpoint:
  - name: submission_exploder
    msa: true
    chain:
      - {filter: exploder, output_chain: submission}
  - name: submission
    retry_params:
      max_attempts: 3
      min_attempt_time: 10
      max_attempt_time: 60
      backoff_factor: 2
      deadline: 300
    notification: {sender: submission, tag: notification}
    chain:
      - {filter: spf_check, domains: [example.com]}
      - {filter: dkim, key: key.pem, domain: example.com, selector: s1}
      - {filter: router, destination: {endpoint: gateway}}
      - {filter: rest_output}
"""


def page(tmp_path: Path) -> RouterConfig:
    path = tmp_path / "router.yaml"
    path.write_text(PAGE)
    loaded = load_router(str(path), {})
    assert loaded.typos == []
    assert all("mailer_daemon_mailbox" in warning for warning in loaded.warnings)
    return loaded.config


def test_the_exploders_output_chain_is_that_of_its_recipients(tmp_path: Path) -> None:
    config = page(tmp_path)
    sender, exploder = effective_sender(config, "submission", None), config.endpoint[0].sink
    assert sender is not None and isinstance(exploder, filters.Exploder)
    found = child_chain(config, sender, exploder)
    assert found is not None and found.name == "submission"


def test_msa_stands_at_the_chain_and_the_exploder_may_differ(tmp_path: Path) -> None:
    config = page(tmp_path)
    assert config.endpoint[0].exploder_is_msa and not config.endpoint[1].exploder_is_msa
    path = tmp_path / "router.yaml"
    path.write_text(PAGE.replace("{filter: exploder,", "{filter: exploder, msa: false,"))
    assert not load_router(str(path), {}).config.endpoint[0].exploder_is_msa


def test_retries_and_notifications_stand_beside_the_chain(tmp_path: Path) -> None:
    handler = page(tmp_path).endpoint[1].output_handler
    params = handler.retry_params
    assert (params.max_attempts, params.min_attempt_time, params.max_attempt_time) == (3, 10, 60)
    assert (params.backoff_factor, params.deadline) == (2, 300)
    assert handler.notification is not None and handler.notification.tag == "notification"


def test_names_of_the_page(tmp_path: Path) -> None:
    chain = page(tmp_path).endpoint[1].chain
    assert isinstance(chain[0], filters.SpfCheck) and chain[0].extra_domains == ["example.com"]
    assert isinstance(chain[1], filters.DkimSign) and chain[1].all_keys[0].selector == "s1"


def test_null_switches_off_what_the_sender_has(tmp_path: Path) -> None:
    config = page(tmp_path)
    for tag, wanted in ((None, True), ("quiet", False), ("notification", True)):
        sender = effective_sender(config, "submission", tag)
        assert sender is not None and (sender.retry, sender.notification) == (wanted, wanted)
    assert effective_sender(config, "submission", "unknown") is None


def test_the_gateway_of_the_sample_loads(tmp_path: Path) -> None:
    loaded = load_gateway(str(ROOT / "tests" / "data" / "sample" / "gateway.yaml"), {})
    assert loaded.typos == []
    assert [warning.rpartition(": ")[2] for warning in loaded.warnings] == [
        "without cert and key this listener is plain SMTP"
    ]
    listeners = {(s.addr.port, s.endpoint, s.sender, s.tag) for s in loaded.config.smtp_listener.services}
    assert listeners == {
        (1025, "mx", "ingress", "smtp-mx"),
        (1587, "msa", "submission", "smtp-msa"),
        (1465, "msa", "submission", "smtp-msa"),
    }
