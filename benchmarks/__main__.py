"""Run all benchmarks except gas tables and flashing: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

import sys

from benchmarks import commands, content, paper, requests
from benchmarks.figure import options, report

if __name__ == "__main__":
    sys.exit(
        report(content.figures(), requests.figures(), paper.figures(), *commands.parts(quick=options(__doc__).quick))
    )
