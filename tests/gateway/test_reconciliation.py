"""A gateway whose state was lost, or replaced by an older copy, logs no statement twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from blockota.errors import RefusedError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.core import Report
from blockota.gateway.reconciliation import reconcile
from blockota.gateway.state import GatewayState
from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from tests.gateway.test_core_crash import feed
from tests.support.gateway import GatewayCore, known_device, release_facts, site_facts
from tests.support.receipts import SigningDevice

STATE = "state.sqlite"


class Site:
    """A gateway with one device that signs its reports."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._thing = folder, SigningDevice()
        self.log = TileLog(folder / "log")
        self.jobs: list[int] = []

    def run(self, versions: Sequence[str], counter: int) -> list[str]:
        """Let the device report versions in turn, and send an event. Returns the kinds of the entries in the log."""
        asyncio.run(self._run(versions, counter))
        return [str(LogEntry.decode(raw).kind) for raw in self.log.entries()]

    async def _run(self, versions: Sequence[str], counter: int) -> None:
        releases = [release_facts(self._folder, version) for version in ("1.0.0", "1.1.0", "2.0.0")]
        device = known_device(256, key=PublicKey(KeyKind.P256, self._thing.key))
        with GatewayState(self._folder / STATE) as state:
            reconcile(state, self.log)
        with GatewayCore(self._folder) as gateway:
            core = gateway.core
            await core.update(site_facts([device], *releases), {})
            for version in versions:
                image = next(one.release.sha256 for one in releases if str(one.release.version) == version)
                _, statement = self._thing.state(image, nonce=core.nonce(256))
                await core.reported(256, Report(image=image, statement=statement))
            event = asyncio.ensure_future(core.event(256, text="smoke\x07", counter=counter))
            while not event.done():
                await feed(gateway, self.log)
                await asyncio.sleep(0)
            await event
            self.jobs.append(core.state(256).job)


def test_a_lost_state_is_learned_from_the_log(tmp_path: Path) -> None:
    """Without its state, a gateway logs no second installation or event, and reuses no job number."""
    site = Site(tmp_path)
    assert site.run(["1.0.0", "1.1.0"], 1) == ["install", "install", "event"]
    for left in tmp_path.glob(f"{STATE}*"):
        left.unlink()
    assert site.run(["1.1.0", "1.0.0"], 1) == ["install", "install", "event", "reinstall"]
    assert len(set(site.jobs)) == 2


def test_an_older_state_learns_what_is_newer(tmp_path: Path) -> None:
    """A state restored from a backup is completed from the log entries made after the backup."""
    site = Site(tmp_path)
    site.run(["1.0.0"], 1)
    shutil.copy(tmp_path / STATE, tmp_path / "backup")
    site.run(["1.1.0"], 2)
    for left in tmp_path.glob(f"{STATE}-*"):
        left.unlink()
    shutil.copy(tmp_path / "backup", tmp_path / STATE)
    assert site.run(["1.1.0"], 2) == ["install", "event", "install", "event"]


def test_a_log_that_lost_entries_is_refused(tmp_path: Path) -> None:
    """A log restored from an old backup is refused, because new entries would get indices that are already used."""
    site = Site(tmp_path)
    site.run(["1.0.0"], 1)
    shutil.rmtree(tmp_path / "log")
    with (
        GatewayState(tmp_path / STATE) as state,
        pytest.raises(RefusedError, match="it has 0 entries, but the state records 2"),
    ):
        reconcile(state, TileLog(tmp_path / "log"))
