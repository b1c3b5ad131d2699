"""Spool files: closed by whoever lets go last, and none is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from koukan.blob.progress import ProgressBody
from koukan.blob.spool import SpooledBody


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_last_one_to_let_go_closes_the_file(tmp_path: Path) -> None:
    before = descriptors()
    body = SpooledBody(str(tmp_path), memory_limit=10)
    body.append(b"x" * 100)
    reader = body
    assert descriptors() == before + 1 and not list(tmp_path.iterdir())
    del body
    assert descriptors() == before + 1
    del reader
    assert descriptors() == before


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    before = descriptors()
    body = SpooledBody(str(tmp_path), memory_limit=10)
    body.append(b"x" * 100)
    body.close()
    body.close()
    assert descriptors() == before


def test_a_full_disk_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr("os.pwrite", full)
    body = SpooledBody(str(tmp_path), memory_limit=10)
    with pytest.raises(OSError, match="No space"):
        body.append(b"x" * 100)
    assert descriptors() == before


async def test_progress_is_told_for_every_chunk_and_changes_nothing() -> None:
    body = SpooledBody()
    body.append(b"x" * 100)
    moved: list[None] = []
    progress = ProgressBody(body, lambda: moved.append(None))
    assert not progress.complete and progress.length is None
    body.finish()
    assert await progress.read() == b"x" * 100 and progress.length == 100
    assert [chunk async for chunk in progress.chunks(40)] == [b"x" * 60]
    assert len(moved) == 1
