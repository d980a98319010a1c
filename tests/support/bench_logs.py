"""Bench logs for tests."""

from __future__ import annotations

from pathlib import Path

from firmware_host.bench.log_folder import BenchLog
from tests.support.logs import note_signer


def bench_log(folder: Path) -> BenchLog:
    """Return the bench log in a folder, signed by a key that all tests share."""
    return BenchLog(folder, note_signer("bench/test"))


def newest_bundle(folder: Path) -> Path:
    """Return the file with the newest entries of a published log, which has fewer than 256 entries."""
    return max((folder / "tile" / "entries" / "000.p").iterdir(), key=lambda path: int(path.name))


def change(folder: Path, before: bytes, after: bytes) -> None:
    """Replace bytes in the newest entries of a log by the same number of other bytes."""
    bundle = newest_bundle(folder)
    content = bundle.read_bytes()
    assert before in content
    assert len(before) == len(after)
    bundle.write_bytes(content.replace(before, after))
