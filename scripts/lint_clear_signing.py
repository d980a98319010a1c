"""Check the clear-signing descriptors with the ERC-7730 linter: ``make clear-signing``.

A descriptor must name where its contract is before the linter takes it, so the packaged ones are checked as they are
for an example deployment. A vendor checks its own: ``python -m scripts.lint_clear_signing FOLDER``.
The exit status is 1 when a contract of ours was not checked, when the linter finds something that is not explained
below, when an explanation explains nothing any more, and when a function cannot be shown by Ledger's wallets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blockota.formats.abi import artifact
from blockota.settings import Deployment
from blockota.vendor.clear_signing import CONTRACTS, write_descriptors

CLONE = Path(__file__).resolve().parent.parent
LINTER_PYTHON = CLONE / ".build" / "clear-signing" / "bin" / "python"
LINTER = Path(__file__).parent / "clear_signing_linter.py"
ARTIFACTS = CLONE / "blockota" / "artifacts"
EXAMPLE = Deployment(
    chain_id=1,
    contract="0x" + "11" * 20,
    replication="0x" + "22" * 20,
    safe="0x" + "33" * 20,
    owners=("0x" + "44" * 20,),
    threshold=1,
    block_number=1,
)
"""On a chain that every wallet knows; nothing is there."""
EXPLAINED = {
    "BlockOTA: warning: Missing display field: No display field is defined for path `#.releases.[]`"
    " in function 0x1828dce4 (see BlockOTA.json).": (
        "the linter asks for a field of a list's elements as a whole beside those of all their parts, which are there"
    ),
}
"""Why each finding is none."""


def main(arguments: list[str]) -> int:
    """Lint a folder's descriptors, or the packaged ones, and say what is wrong."""
    if not LINTER_PYTHON.exists():
        print("The linter is not set up: run `make clear-signing` once.", file=sys.stderr)
        return 1
    if arguments:
        reports = lint(Path(arguments[0]))
    else:
        with TemporaryDirectory() as folder:
            write_descriptors(Path(folder), EXAMPLE, vendor="Example vendor")
            reports = lint(Path(folder))
    if problems := list(complaints(reports)):
        print("\n".join(problems), file=sys.stderr)
        return 1
    told = ", ".join(f"{report['contract']} ({report['shown']} functions)" for report in reports)
    explained = f"{len(EXPLAINED)} finding, explained in {Path(__file__).name}"
    print(f"The linter checked {len(reports)} descriptors: {told}; {explained}.")
    return 0


def lint(folder: Path) -> list[dict[str, Any]]:
    """What the linter reports of each file ``calldata-CONTRACT.json`` of a folder; nothing when it broke down."""
    command = [str(LINTER_PYTHON), str(LINTER), str(folder), str(ARTIFACTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return []
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def complaints(reports: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong, a sentence each."""
    by_contract = {report["contract"]: report for report in reports if report["checked"]}
    yield from (f"{name}: no descriptor was checked." for name in CONTRACTS if name not in by_contract)
    found = [f"{report['contract']}: {finding}" for report in reports for finding in report["findings"]]
    yield from (finding for finding in found if finding not in EXPLAINED)
    yield from (f"Explained, but not found any more: {finding}" for finding in EXPLAINED if finding not in found)
    for name in by_contract.keys() & set(CONTRACTS):
        shown, wanted = by_contract[name]["shown"], count_signable(name)
        if shown != wanted:
            yield f"{name}: {shown} of {wanted} functions can be shown."


def count_signable(contract: str) -> int:
    """How many functions of a contract change something."""
    return sum(
        entry["type"] == "function" and entry["stateMutability"] in {"nonpayable", "payable"}
        for entry in artifact(contract)["abi"]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
