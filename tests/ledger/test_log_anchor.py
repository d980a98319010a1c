"""The gateway anchors its log in time, and also records installations on the chain.

Anchors are made on time even while installations are not recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_anchor import LogAnchor, due_multiple
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry, ReleaseId
from tests.support.city import GATEWAY, City

T = 600
IMAGE = hashlib.sha256(b"image").digest()


@pytest.mark.parametrize(
    ("now", "tried_at", "waiting_since", "every"),
    [
        (1000, 0, None, None),
        (1000, 401, 0, None),
        (1000, 400, 900, 256),
        (1199, 500, 0, 256),
        (1200, 600, 0, 1),
        (1200, 601, 0, None),
    ],
)
def test_a_log_is_due_at_full_tiles_and_after_two_periods_whole(
    now: int, tried_at: int, waiting_since: int | None, every: int | None
) -> None:
    """In each period, the log is anchored at a multiple of 256 entries.

    After an entry has waited for two periods, the whole log is anchored.
    """
    assert due_multiple(now=now, period=T, tried_at=tried_at, waiting_since=waiting_since) == every


class KeptLog:
    """The log of the city's gateway, with its anchor."""

    def __init__(self, city: City, folder: Path) -> None:
        self.log = TileLog(folder / "log")
        self.signer = NoteSigner(
            VerifierKey("city.example/gateway", NoteAlgorithm.ED25519, GATEWAY.log_key.public_key().public_bytes_raw()),
            GATEWAY.log_key.sign,
        )
        self.contracts = (dev_account(GATEWAY.account or 0), city.ledger, city.identities)
        self.folder, self.reports = folder, list[str]()

    def add(self, device: int, release: ReleaseId, **changes: object) -> None:
        """Append an installation, and publish the log."""
        facts = {"kind": EntryKind.INSTALL, "level": EvidenceLevel.C, "time": 1_800_000_000 + len(self.log)} | changes
        entry = LogEntry(device=device, release=release, image=IMAGE, gateway=GATEWAY.uuid, **facts)  # type: ignore[arg-type]
        self.log.append([entry.encode()])
        self.log.publish(self.signer)

    def anchor(self, every: int = 1, *, owns: Callable[[int], bool] = lambda _: True) -> int:
        """Anchor the log with a new object, as a restarted process does."""
        anchor = LogAnchor(self.log.published, *self.contracts, folder=self.folder)
        return anchor.anchor(every, owns=owns, report=self.reports.append)


def test_installs_are_recorded_with_the_anchor(city: City, tmp_path: Path) -> None:
    """Installations of several releases are recorded once; claims and foreign devices are not recorded.

    Repeats do no harm.
    """
    kept = KeptLog(city, tmp_path)
    first, second = city.register("A-1"), city.register("A-2")
    old, new = city.release_id("1.0.0"), city.release_id("1.1.0")
    kept.add(first, old)
    kept.add(second, old, kind=EntryKind.CLAIMED, level=EvidenceLevel.B)
    kept.add(first, new)
    kept.add(9 * 256, new)
    assert kept.anchor(256) == 0
    waiting = LogAnchor(kept.log.published, *kept.contracts, folder=tmp_path)
    assert waiting.waiting_since(0) == 1_800_000_000

    assert kept.anchor(owns=lambda number: number < 9 * 256) == 4
    assert (waiting.size(), waiting.waiting_since(4)) == (4, None)
    assert city.ledger.installed(old, [first, second]) == {first: True, second: False}
    assert city.ledger.installed(new, [first, second]) == {first: True, second: False}
    assert (kept.anchor(), kept.reports) == (4, [])

    # The file is lost, and the contract refuses the devices of another site: the log is anchored all the same.
    (tmp_path / "recorded").unlink()
    kept.add(second, new)
    assert kept.anchor() == 5
    assert len(kept.reports) == 1
    assert "is not recorded" in kept.reports[0]
    record = city.ledger.log(GATEWAY.uuid)
    assert record
    assert record.size == 5
