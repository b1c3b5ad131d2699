"""What `koukan dev` shows of what runs and what became of a mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from koukan.config.files import load_gateway, load_router
from koukan.dev.files import Ports, prepare, write_configuration
from koukan.dev.timeline import Timeline


def test_the_configuration_that_runs_lies_in_the_directory(tmp_path: Path) -> None:
    prepare(tmp_path)
    ports = Ports().shifted(100)
    router = load_router(str(write_configuration("router.yaml", tmp_path, ports)), {}).config
    gateway = load_gateway(str(write_configuration("gateway.yaml", tmp_path, ports)), {}).config
    assert router.rest_listener.addr.port == 8100 and gateway.rest_listener.addr.port == 8101
    assert {service.addr.port for service in gateway.smtp_listener.services} >= {1125, 1687}


@pytest.mark.parametrize(
    ("result", "reason", "text"),
    [
        ("waiting", None, "its client fell silent after 60.000 s, it waits for the rest of its upload"),
        ("failed", "downstream timeout", "failed (downstream timeout) after 60.000 s"),
    ],
)
def test_a_timeout_is_called_a_timeout(result: str, reason: str | None, text: str) -> None:
    lines: list[str] = []
    timeline = Timeline(lines.append)
    timeline.attempted(
        {"id": "1-a", "time": "2026-01-01T00:00:00.000Z", "kind": "durable", "attempt": 1, "seconds": 60.0}
        | {"result": result, "reason": reason, "answer": "250 2.1.5 ok"}
    )
    assert result == "waiting" or text in "".join(lines)
    assert any(text in line for lines in timeline._lines.values() for line in lines)
