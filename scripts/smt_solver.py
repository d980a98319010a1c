"""Decide a formula with Yices, and ask Z3 where Yices found no contradiction: what Halmos runs for each path.

Yices 2.6.4 is the faster one, and takes some formulas for satisfiable that are not: Halmos then shows a counterexample
that is none. Except for a contradiction that Yices found, Z3's answer therefore counts; the model is Yices', which
Halmos reads, when both have one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent.parent / ".build" / "halmos" / "bin"
YICES = (str(PROGRAMS / "yices-smt2"), "--smt2-model-format", "--bvconst-in-decimal")
Z3 = (str(PROGRAMS / "z3"),)
YICES_SECONDS = 40
Z3_SECONDS = 120


def main() -> None:
    """Print the answer, and a model where there is one, as SMT-LIB 2.6 has it."""
    print(solve(Path(sys.argv[1])))


def solve(formula: Path) -> str:
    """What Halmos reads: "unsat", or "sat" and a model, or "unknown".

    Args:
        formula: a file with one formula, the check and the demand for a model.
    """
    first = answer(YICES, formula, YICES_SECONDS)
    if first.startswith("unsat"):
        return first
    second = answer(Z3, formula, Z3_SECONDS)
    agreed = first.startswith("sat") and second.startswith("sat")
    return first if agreed else second


def answer(solver: tuple[str, ...], formula: Path, seconds: float) -> str:
    """What one solver says within so many seconds; "unknown" when they do not suffice."""
    try:
        done = subprocess.run([*solver, str(formula)], timeout=seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return "unknown"
    return done.stdout


if __name__ == "__main__":
    main()
