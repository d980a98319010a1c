"""Measure the size of a receipt's proof file and the duration of its check: ``python -m benchmarks.receipts [--json]``.

The device-signed receipt is in the middle of a log of 100,000 entries with two witnesses. The exit status is 1
if a figure misses its limit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.commands import COMMAND, RUNS, seconds
from benchmarks.figure import ROOT, Figure, options, report, seconds_of
from blockota.ledger.verify import verify_proof
from blockota.model.proof_file import Anchor, ProofFile
from tests.support.receipts import DEVICE, MemoryLog, SigningDevice, install, signed_install, trust_table

ENTRIES, CHECKS = 100_000, 201
MAX_SIZE, MAX_CHECK, MAX_COMMAND = 2000, 2.0, 0.25
SIGNER = SigningDevice()


def figures() -> Iterator[Figure]:
    """Yield the size of the proof file, and the durations of its check in this process and of the whole command."""
    other = install().encode()
    middle = ENTRIES // 2
    log = MemoryLog([*[other] * middle, signed_install(SIGNER).encode(), *[other] * (ENTRIES - middle - 1)])
    raw = log.prove(middle, Anchor(1337, 21_234_567, ENTRIES)).to_json()
    yield Figure("proof file of one receipt among 100,000", len(raw), "bytes", MAX_SIZE)

    keys = log.keys(**{f"device{DEVICE}": SIGNER.key})
    runs = [1000 * seconds_of(lambda: verify_proof(ProofFile.from_json(raw), keys)) for _ in range(CHECKS)]
    yield Figure("check of the proof file in process", statistics.median(runs), "ms", MAX_CHECK)

    with tempfile.TemporaryDirectory() as folder:
        file, trust = Path(folder) / "RECEIPT.json", Path(folder) / "trust.toml"
        file.write_bytes(raw)
        trust.write_text(trust_table(keys))
        command = [*COMMAND, "log", "verify", str(file), "--trust", str(trust)]
        yield Figure("log verify, whole process", seconds(command, ROOT, runs=RUNS), "s", MAX_COMMAND)


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
