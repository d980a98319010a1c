"""Prove the checks of the contracts for all inputs with Halmos: ``make halmos``.

The checks are the functions ``check_*`` of tests/contracts/Check*.t.sol. The functions ``check_reachable_*`` claim
that a reachable state is unreachable. Halmos must refute each ``check_reachable_*``; a refutation shows that the other
checks are not vacuous. The exit status is 1 if a check is not proved on every path, or if a ``check_reachable_*`` is
not refuted. It is also 1 if a contract lacks one of the two kinds of check.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scripts.compilation import CLONE, CONTRACTS
from scripts.forge import environment, find_forge

HALMOS = CLONE / ".build" / "halmos" / "bin" / "halmos"
SOLVER = CLONE / "scripts" / "smt_solver.py"
PASSED, REFUTED = 0, 1
"""Halmos' exit codes of a proved check, and of a check with a counterexample."""
CUT = -1
"""Our code for a check that Halmos passed with a warning, because it did not unroll every loop."""
REACHABLE = ".check_reachable_"


def main() -> int:
    """Run Halmos on all contracts in parallel, and print the proved checks or the problems."""
    subprocess.run([str(find_forge()), "build", "--quiet"], cwd=CLONE, env=variables(), check=True)
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(run, CONTRACTS))
    proved, problems = judge({suite: results for report, _ in runs for suite, results in report.items()})
    if problems:
        print("\n".join([*(output for _, output in runs), *problems]), file=sys.stderr)
        return 1
    print(f"Halmos proved {len(proved)} checks:\n" + "\n".join(f"  {name}" for name in proved))
    return 0


def variables() -> dict[str, str]:
    """Return the environment for Halmos and for forge."""
    return environment() | {"FOUNDRY_PROFILE": "halmos"}


def run(contract: str) -> tuple[dict[str, Any], str]:
    """Run Halmos on one contract; return its results by "file:contract", and its printed output."""
    results = CLONE / ".build" / f"halmos-{contract}.json"
    results.unlink(missing_ok=True)
    solver = f"{sys.executable} {SOLVER}"
    command = [str(HALMOS), "--no-status", "--contract", f"Check{contract}", "--solver-command", solver]
    done = subprocess.run(
        [*command, "--json-output", str(results)],
        cwd=CLONE,
        env=variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(results.read_text()) if results.exists() else {}
    return report.get("test_results", {}), done.stdout + done.stderr


def judge(results: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the proved checks and the problems, from Halmos' results by "file:contract"."""
    codes = dict(checks(results))
    proved = [name for name, code in codes.items() if code == PASSED and REACHABLE not in name]
    reached = [name for name, code in codes.items() if code == REFUTED and REACHABLE in name]
    problems = [
        f"{name} is not {'refuted' if REACHABLE in name else 'proved'}."
        for name in codes
        if name not in proved and name not in reached
    ]
    problems += [f"Nothing is proved of {name}." for name in CONTRACTS if not any(name in check for check in proved)]
    problems += [f"Nothing is refuted of {name}." for name in CONTRACTS if not any(name in check for check in reached)]
    return proved, problems


def checks(results: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield each check as "contract.function" with its exit code, or `CUT` if Halmos did not unroll every loop."""
    for suite, outcomes in results.items():
        contract = suite.rpartition(":")[2]
        for outcome in outcomes:
            cut = outcome["exitcode"] == PASSED and outcome["num_bounded_loops"]
            yield f"{contract}.{outcome['name'].partition('(')[0]}", CUT if cut else outcome["exitcode"]


if __name__ == "__main__":
    sys.exit(main())
