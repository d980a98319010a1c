"""Measure how long appending, proving and checking a log take: ``python -m benchmarks.logs [--json]``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from benchmarks.figure import Figure, folder_on_disk, options, report
from blockota.ledger.fsck import check_log
from blockota.ledger.log import TileLog
from tests.support.logs import note_signer

ENTRIES, BATCH, ENTRY_SIZE = 100_000, 1_024, 300
"""The number of entries, the entries between two checkpoints, and the size of an entry with a device's signature."""
PROOFS = 100
KEY = note_signer()


def figures() -> Iterator[Figure]:
    """Yield the processor times of writing a log of 100,000 entries, of proving one entry, and of checking the log."""
    entries = [number.to_bytes(8) + bytes(ENTRY_SIZE - 8) for number in range(ENTRIES)]
    with folder_on_disk() as folder:
        log = TileLog(folder / "log")
        began = time.process_time()
        for start in range(0, ENTRIES, BATCH):
            log.append(entries[start : start + BATCH])
            log.publish(KEY)
        name = f"a log of {ENTRIES:,} entries of {ENTRY_SIZE} bytes, with {-(-ENTRIES // BATCH)} checkpoints"
        yield Figure(name, time.process_time() - began, "s of CPU", 1.0)

        began = time.process_time()
        for number in range(PROOFS):
            log.published.prove_inclusion(number * (ENTRIES // PROOFS))
        name = f"making the proof of one entry among {ENTRIES:,}"
        yield Figure(name, (time.process_time() - began) / PROOFS * 1_000, "ms of CPU", 10.0)

        began = time.process_time()
        check_log(log.published, [KEY.key])
        yield Figure(f"checking all files of a log of {ENTRIES:,} entries", time.process_time() - began, "s of CPU")


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
