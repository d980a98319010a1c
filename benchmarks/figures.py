"""Run `benchmarks.commands` for ``make bench``, which names this file by its path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    command = [sys.executable, "-m", "benchmarks.commands", *sys.argv[1:]]
    sys.exit(subprocess.call(command, cwd=Path(__file__).resolve().parent.parent))
