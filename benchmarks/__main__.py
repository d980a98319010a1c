"""Run all benchmarks except gas tables and flashing: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

import sys

from benchmarks import commands, content, following, identities, logs, paper, receipts, requests
from benchmarks.figure import options, report

if __name__ == "__main__":
    registries = (following.figures(), identities.figures())
    ledger = (receipts.figures(), logs.figures())
    parts = (content.figures(), requests.figures(), *registries, *ledger, paper.figures())
    sys.exit(report(*parts, *commands.parts(quick=options(__doc__).quick)))
