"""Run all benchmarks except gas tables and flashing: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

import sys

from benchmarks import commands, content, following, identities, paper, receipts, requests
from benchmarks.figure import options, report

if __name__ == "__main__":
    registries = (following.figures(), identities.figures())
    parts = (content.figures(), requests.figures(), *registries, paper.figures(), receipts.figures())
    sys.exit(report(*parts, *commands.parts(quick=options(__doc__).quick)))
