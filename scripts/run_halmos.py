"""Prove the checks of the contracts for all inputs with Halmos: ``make halmos``.

The checks are the functions ``check_*`` of tests/contracts/Check*.t.sol. The exit status is 1 when one fails or is not
decided, and when a contract of ours has none that was run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from scripts.build_artifacts import CONTRACTS
from scripts.compilation import CLONE
from scripts.forge import environment

HALMOS = CLONE / ".build" / "halmos" / "bin" / "halmos"
RESULTS = CLONE / ".build" / "halmos.json"
PASSED = 0
"""The exit code that Halmos gives a check that holds."""


def main() -> int:
    """Run Halmos, and count what it proved."""
    RESULTS.unlink(missing_ok=True)
    variables = environment() | {"FOUNDRY_PROFILE": "halmos"}
    done = subprocess.run(
        [str(HALMOS), "--no-status", "--json-output", str(RESULTS)],
        cwd=CLONE,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    proved, problems = judge(report)
    if done.returncode and not problems:
        problems = [f"Halmos ended with {done.returncode}."]
    if problems:
        print(done.stdout + done.stderr + "\n".join(problems), file=sys.stderr)
        return 1
    print(f"Halmos proved {len(proved)} checks:\n" + "\n".join(f"  {name}" for name in proved))
    return 0


def judge(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The checks that were proved, and what is wrong.

    Args:
        report: what Halmos writes: under ``test_results``, a list of checks by "file:contract".
    """
    proved, problems = [], []
    for name, exit_code in checks(report):
        if exit_code == PASSED:
            proved.append(name)
        else:
            problems.append(f"{name} is not proved.")
    problems += [f"Nothing is proved of {name}." for name in CONTRACTS if not any(name in check for check in proved)]
    return proved, problems


def checks(report: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Each check, as "contract.function", with its exit code."""
    for suite, results in report.get("test_results", {}).items():
        contract = suite.rpartition(":")[2]
        yield from ((f"{contract}.{result['name'].partition('(')[0]}", result["exitcode"]) for result in results)


if __name__ == "__main__":
    sys.exit(main())
