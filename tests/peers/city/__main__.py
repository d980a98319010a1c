"""Run the city test: ``python -m tests.peers.city --size 20``, or ``make city``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.peers.city.script import run_city
from tests.peers.city.tools import find_obstacles
from tests.support import forks


def main() -> int:
    """Run the test. The exit status is 1 if a program or permission that the test needs is missing."""
    parser = argparse.ArgumentParser(prog="make city", description=__doc__)
    parser.add_argument("--size", type=int, default=20, help="the number of sensors, gateways and validators")
    size = parser.parse_args().size
    if not 1 <= size <= 60:
        print(f"SIZE={size} is not possible: give a number from 1 to 60.", file=sys.stderr)
        return 2
    if obstacles := find_obstacles():
        print(obstacles, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all processes and networks are removed
    with tempfile.TemporaryDirectory() as folder, forks.server():
        run_city(Path(folder), size, lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
