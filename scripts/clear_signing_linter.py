"""Lint the clear-signing descriptors in a folder, and print a JSON report.

`lint_clear_signing` runs this script in the linter's own venv. The linter compares a descriptor with the ABI that
Sourcify or Etherscan publishes for the contract's address. This script uses the ABI in the package's artifacts instead,
so it needs neither a network nor a deployed contract.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from erc7730.common import client
from erc7730.common.output import ListOutputAdder
from erc7730.convert.calldata.convert_erc7730_v2_input_to_calldata import (
    erc7730_v2_descriptor_to_calldata_descriptors,
)
from erc7730.lint.v2.lint import lint_all
from erc7730.model.abi import ABI
from erc7730.model.input.v2.descriptor import InputERC7730Descriptor
from pydantic import TypeAdapter, ValidationError


def main() -> None:
    """Lint every descriptor in one folder against the artifacts in another folder."""
    folder, artifacts = map(Path, sys.argv[1:])
    with redirect_stdout(sys.stderr):  # the linter also prints to stdout
        reports = [report(path, artifacts) for path in sorted(folder.glob("calldata-*.json"))]
    print(json.dumps(reports))


def report(path: Path, artifacts: Path) -> dict[str, Any]:
    """Return the linter's findings on one descriptor, and the number of functions that Ledger wallets can show."""
    contract = path.stem.removeprefix("calldata-")
    # Each ABI lookup of the linter returns the artifact's ABI.
    artifact = artifacts / f"{contract}.json"
    abi = TypeAdapter(list[ABI]).validate_json(json.dumps(json.loads(artifact.read_text())["abi"]))
    client.get_contract_abis = lambda _chain_id, _address: abi
    client.get_contract_explorer_url = lambda _chain_id, _address: artifact.name
    out = ListOutputAdder()
    checked = lint_all([path], out)
    findings = [f"{found.level.name.lower()}: {found.title}: {found.message}" for found in out.outputs]
    return {"contract": contract, "checked": checked, "findings": findings, "shown": count_shown(path)}


def count_shown(path: Path) -> int:
    """Return the number of functions that can be converted to Ledger's format; 0 for an invalid file."""
    try:
        descriptor = InputERC7730Descriptor.load(path)
    except (ValidationError, ValueError):
        return 0
    return len(erc7730_v2_descriptor_to_calldata_descriptors(descriptor, out=ListOutputAdder()))


if __name__ == "__main__":
    main()
