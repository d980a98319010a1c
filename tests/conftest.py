"""What tests share: the cast, and real chains to play on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from blockota.keys import dev_account

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "examples" / "bluepill" / "images"


@dataclass(frozen=True)
class Cast:
    """Who plays: accounts of the test mnemonic, each with one part."""

    payer: LocalAccount
    owner_a: LocalAccount
    owner_b: LocalAccount
    owner_c: LocalAccount
    broker: LocalAccount
    technician: LocalAccount
    mallory: LocalAccount


@pytest.fixture(scope="session")
def cast() -> Cast:
    """The cast; the owners are those of the Safe of `blockota dev up`."""
    return Cast(*(dev_account(number) for number in range(7)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures where nothing may be skipped (``.ci/run`` says so)."""
    report = yield
    if report.skipped and os.environ.get("BLOCKOTA_NOTHING_SKIPPED"):  # type: ignore[attr-defined]
        report.outcome = "failed"  # type: ignore[attr-defined]
        report.longrepr = f"skipped where nothing may be: {item.nodeid}"  # type: ignore[attr-defined]
    return report
