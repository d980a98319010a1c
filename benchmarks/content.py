"""Measure how content moves: ``python -m benchmarks.content [--json]``.

Times are ratios of two programs that do the same, measured in turns in one run on this machine: the median of several
turns, after a warm-up. The exit status is 1 if a figure misses its limit, or if a program to compare with is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks import crowd, kubo, local, memory, transfer
from benchmarks.figure import Figure, report
from benchmarks.servers import nginx_program


def figures() -> Iterator[Figure]:
    """All figures, one after the other; the required programs are checked first."""
    kubo.program()
    nginx_program()
    for part in (local, transfer, crowd, memory, kubo):
        yield from part.figures()


if __name__ == "__main__":
    sys.exit(report(figures()))
