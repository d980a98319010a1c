"""Decide a formula with Yices; if Yices does not prove that the formula is unsatisfiable, decide it with Z3.

Halmos runs this script for each path of a check.

Yices 2.6.4 is faster, but reports some unsatisfiable formulas as satisfiable, so that Halmos shows a false
counterexample. The script therefore accepts the answer "unsat" of Yices, and lets Z3 decide in all other cases. If both
solvers find a model, the script prints the model of Yices.
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
    """Decide the formula in a file, and print the result and the model, if any, in SMT-LIB 2.6."""
    print(solve(Path(sys.argv[1])))


def solve(formula: Path) -> str:
    """Decide the formula in a file: "unsat", "sat" with a model, or "unknown"."""
    first = answer(YICES, formula, YICES_SECONDS)
    if first.startswith("unsat"):
        return first
    second = answer(Z3, formula, Z3_SECONDS)
    agreed = first.startswith("sat") and second.startswith("sat")
    return first if agreed else second


def answer(solver: tuple[str, ...], formula: Path, seconds: float) -> str:
    """Return the output of one solver; "unknown" if the solver exceeds the time limit."""
    try:
        done = subprocess.run([*solver, str(formula)], timeout=seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return "unknown"
    return done.stdout


if __name__ == "__main__":
    main()
