"""`koukan-operator render`: the plan without a cluster."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from koukan_operator.main import main

from tests.support.mail_resources import as_yaml, chain, gateway, router, secret


def write(path: Path, *documents: dict[str, object]) -> str:
    path.write_text(as_yaml(*documents))
    return str(path)


def test_prints_what_would_be_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "mail.yaml", router(), gateway(), secret())
    assert main(["render", "-f", file, "--image", "koukan:1"]) == 0
    printed = capsys.readouterr()
    manifests = list(yaml.safe_load_all(printed.out))
    deployments = [m for m in manifests if m["kind"] == "Deployment"]
    assert [m["metadata"]["name"] for m in deployments] == ["mail", "edge"]
    assert deployments[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "koukan:1"
    assert printed.err == ""


def test_files_are_one_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write(tmp_path / "router.yaml", router("mail", ("news",)), secret()),
        write(tmp_path / "chain.yaml", chain("news", "news.example.com")),
    ]
    assert main(["render", "-f", files[0], "-f", files[1]]) == 0
    assert "news.example.com" in capsys.readouterr().out


def test_namespaces_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "mail.yaml", router("mail", ("news",)), secret(), chain("news", namespace="other"))
    assert main(["render", "-f", file]) == 0
    assert 'there is no OutputChain "news" in this namespace' in capsys.readouterr().err


def test_what_is_missing_is_said_and_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", write(tmp_path / "mail.yaml", router())]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("needs: KoukanRouter/mail: spec.database.urlSecretRef: there is no Secret")
    assert "kind: Deployment" in printed.out


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (router(replicas="three"), "error: KoukanRouter/mail: spec.replicas: "),
        (
            chain("news", chain=[{"filter": "rest_output", "x": 1}]),
            "error: OutputChain/news: spec.chain[0].x: unknown key",
        ),
        (
            router(senders=[{"name": "a"}]),
            "error: KoukanRouter/mail: spec.senders[0]: sender 'a' needs an outputChain\n",
        ),
    ],
)
def test_an_invalid_resource_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: dict[str, object], error: str
) -> None:
    assert main(["render", "-f", write(tmp_path / "mail.yaml", document, secret())]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(error)
    assert printed.out == ""


def test_a_claim_that_is_refused_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = chain("late", routerRefs=[{"name": "mail"}], senders=[{"name": "news"}])
    file = write(tmp_path / "mail.yaml", router("mail", ("news",)), chain("news"), late, secret())
    assert main(["render", "-f", file]) == 0
    assert "refused: OutputChain/late: sender 'news' is taken by KoukanRouter/mail" in capsys.readouterr().err


def test_apis_of_the_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "mail.yaml", router(tls={"issuerRef": {"name": "ca"}}), secret())
    assert main(["render", "-f", file]) == 2
    assert "the cluster has no cert-manager" in capsys.readouterr().err
    assert main(["render", "-f", file, "--api", "cert-manager.io/v1", "--api", "monitoring.coreos.com/v1"]) == 0
    kinds = {manifest["kind"] for manifest in yaml.safe_load_all(capsys.readouterr().out)}
    assert kinds >= {"Certificate", "PodMonitor"}


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(as_yaml(router(), secret())))
    assert main(["render", "-f", "-"]) == 0
    assert "name: mail-config" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [", "broken YAML: "),
        ("just text", "document 1 is no Kubernetes object: it needs kind and metadata.name"),
        ("kind: KoukanRouter", "document 1 is no Kubernetes object"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str) -> None:
    file = tmp_path / "mail.yaml"
    file.write_text(text)
    assert main(["render", "-f", str(file)]) == 2
    assert f"{file}: {error}" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
