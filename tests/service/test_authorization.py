"""Credentials of a destination: from a file, to its own server only, and never shown."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from koukan.errors import ConfigError
from koukan.rest.output import read_authorization
from tests.support.house import House, eventually, quick_end
from tests.support.oldserver import OldServer, Seen
from tests.support.smtp_dialogue import message, send

TOKEN = "Bearer sesame-open"


@pytest.fixture
async def elsewhere() -> AsyncIterator[OldServer]:
    async with OldServer() as server:
        yield server


async def test_it_goes_with_every_request_and_nowhere_else(
    tmp_path: Path, sqlite_url: str, elsewhere: OldServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The application sends the upload to another server, which must not see it."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    caplog.set_level(logging.DEBUG)
    async with OldServer() as app:

        async def intercept(seen: Seen) -> web.StreamResponse | None:
            if seen.method != "PUT":
                return None
            return web.Response(status=308, headers={"location": f"{elsewhere.base}{seen.path}"})

        app.intercept = intercept

        def change(document: dict[str, Any]) -> None:
            quick_end(document)
            document["rest_endpoint"][0].update(endpoint=app.url, authorization_file=str(tmp_path / "token"))

        async with House(tmp_path, sqlite_url, change) as house:
            await send(house.mx, "ann@example.net", ["bob@example.com"], message())
            await eventually(lambda: bool(elsewhere.requests))
        own = [seen.headers.get("authorization") for seen in app.requests]
        assert own and set(own) == {TOKEN}
        assert {seen.headers.get("authorization") for seen in elsewhere.requests} == {None}
    assert "sesame" not in caplog.text


@pytest.mark.parametrize("content", ["", "token-without-a-scheme", "Bearer a\nBearer b", "Bearer ü"])
def test_what_is_no_header_does_not_start(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(ConfigError, match="authorization_file") as error:
        read_authorization(str(tmp_path / "token"))
    assert not content or content not in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none"):
        read_authorization(str(tmp_path / "none"))
