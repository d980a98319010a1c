"""What tests share: the cast, and real chains to play on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import settings

from blockota.chain import Chain
from blockota.errors import ChainError
from blockota.keys import dev_account
from blockota.localchain import CHAIN_ID, find_anvil, free_port

settings.register_profile("patient", deadline=None)  # four tests at a time: how long one takes says nothing of it
settings.load_profile("patient")
ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
IMAGES = ROOT / "examples" / "bluepill" / "images"


def stride(usual: int) -> int:
    """How far apart the places are that a test tries out of many: `usual`, and 1 in ``make deep``."""
    return 1 if os.environ.get("BLOCKOTA_EXHAUSTIVE") else usual


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


@pytest.fixture(scope="session")
def anvil() -> Iterator[Chain]:
    """A real chain of its own for every worker; tests share it, so each takes a contract or a product of its own."""
    port = free_port()
    command = [str(find_anvil()), "--chain-id", str(CHAIN_ID), "--prune-history", "256", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_chain(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def wait_for_chain(url: str) -> Chain:
    """A chain that is about to answer."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return Chain(url, chain_id=CHAIN_ID)
        except ChainError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures where nothing may be skipped (``.ci/run`` says so)."""
    report = yield
    if report.skipped and os.environ.get("BLOCKOTA_NOTHING_SKIPPED"):  # type: ignore[attr-defined]
        report.outcome = "failed"  # type: ignore[attr-defined]
        report.longrepr = f"skipped where nothing may be: {item.nodeid}"  # type: ignore[attr-defined]
    return report
