"""Run all benchmarks except gas tables and flashing: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

import sys

from benchmarks import commands, content, following, identities, logs, operations, paper, receipts, requests
from benchmarks.figure import options, report

if __name__ == "__main__":
    registries = (following.figures(), identities.figures())
    ledger = (receipts.figures(), logs.figures())
    is_quick = options(__doc__).quick
    cloud = operations.figures(operations.QUICK_REQUESTS if is_quick else operations.REQUESTS)
    parts = (content.figures(), requests.figures(), *registries, *ledger, cloud, paper.figures())
    sys.exit(report(*parts, *commands.parts(quick=is_quick)))
