"""Check the clear-signing descriptors with the ERC-7730 linter: ``make clear-signing``.

The linter requires the address of the contract in each descriptor. The script therefore adds the addresses of an
example deployment to the packaged descriptors. ``python -m scripts.lint_clear_signing FOLDER`` checks the descriptors
of a vendor. The exit status is 1 if a contract was not checked, a finding is not explained in `EXPLAINED`, an
explanation has no finding, or Ledger's wallets cannot show a function.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blockota.deployment import Deployment
from blockota.formats.abi import artifact
from blockota.vendor.clear_signing import CONTRACTS, file_name, write_descriptors

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
    registries={"producers": "0x" + "55" * 20, "identities": "0x" + "66" * 20, "devices": "0x" + "77" * 20},
)
"""An example deployment on Ethereum's main chain, which every wallet knows; the addresses are not in use."""
ELEMENT = "the linter asks for a field that shows a list's element as a whole, but fields show all parts of the element"
EXPLAINED = {
    "BlockOTA: warning: Missing display field: No display field is defined for path `#.releases.[]`"
    " in function 0x1828dce4 (see BlockOTA.json).": ELEMENT,
    "FirmwareReplication: warning: Missing display field: No display field is defined for path `#.terms.[]`"
    " in function 0xefa61bb0 (see FirmwareReplication.json).": ELEMENT,
    "IdentityRegistry: warning: Missing display field: No display field is defined for path `#.enrolments.[]`"
    " in function 0x98455977 (see IdentityRegistry.json).": ELEMENT,
    "DeviceRegistry: warning: Missing display field: No display field is defined for path `#.things.[]`"
    " in function 0x2e8797e1 (see DeviceRegistry.json).": ELEMENT,
}
"""The reason why each finding is acceptable."""


def main(arguments: list[str]) -> int:
    """Lint the descriptors of a folder, or the packaged ones, and print the problems."""
    if not LINTER_PYTHON.exists():
        print("The linter is not set up: run `make clear-signing` once.", file=sys.stderr)
        return 1
    wanted = list(CONTRACTS)
    if arguments:
        wanted = [name for name in CONTRACTS if (Path(arguments[0]) / file_name(name)).exists()] or wanted
        reports = lint(Path(arguments[0]))
    else:
        with TemporaryDirectory() as folder:
            write_descriptors(Path(folder), EXAMPLE, vendor="Example vendor")
            reports = lint(Path(folder))
    if problems := list(complaints(reports, wanted)):
        print("\n".join(problems), file=sys.stderr)
        return 1
    shown = ", ".join(f"{report['contract']} ({report['shown']} functions)" for report in reports)
    explained = f"{len(EXPLAINED)} findings, explained in {Path(__file__).name}"
    print(f"The linter checked {len(reports)} descriptors: {shown}; {explained}.")
    return 0


def lint(folder: Path) -> list[dict[str, Any]]:
    """Return the linter's report on each file ``calldata-CONTRACT.json`` in a folder; empty if the linter failed."""
    command = [str(LINTER_PYTHON), str(LINTER), str(folder), str(ARTIFACTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return []
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def complaints(reports: list[dict[str, Any]], wanted: Sequence[str]) -> Iterator[str]:
    """Yield the problems in the linter's reports on the descriptors of some contracts, one sentence for each."""
    by_contract = {report["contract"]: report for report in reports if report["checked"]}
    yield from (f"{name}: no descriptor was checked." for name in wanted if name not in by_contract)
    found = [f"{report['contract']}: {finding}" for report in reports for finding in report["findings"]]
    explained = [finding for finding in EXPLAINED if finding.partition(":")[0] in wanted]
    yield from (finding for finding in found if finding not in explained)
    yield from (f"Explained, but not found any more: {finding}" for finding in explained if finding not in found)
    for name in by_contract.keys() & set(wanted):
        shown, signable = by_contract[name]["shown"], count_signable(name)
        if shown != signable:
            yield f"{name}: {shown} of {signable} functions can be shown."


def count_signable(contract: str) -> int:
    """Return the number of functions of a contract that change its state."""
    return sum(
        entry["type"] == "function" and entry["stateMutability"] in {"nonpayable", "payable"}
        for entry in artifact(contract)["abi"]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
