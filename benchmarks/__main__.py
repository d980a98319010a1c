"""Run all benchmarks except gas tables and flashing: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

import sys

from benchmarks import commands, content, following, paper, receipts, requests
from benchmarks.figure import options, report

if __name__ == "__main__":
    parts = (content.figures(), requests.figures(), following.figures(), paper.figures(), receipts.figures())
    sys.exit(report(*parts, *commands.parts(quick=options(__doc__).quick)))
