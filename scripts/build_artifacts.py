"""Compile the contracts into package data, so that an installed BlockOTA does not need a compiler.

``.venv/bin/python -m scripts.build_artifacts`` writes ``blockota/artifacts/<contract>.json``. With ``--check`` the
script writes nothing, and exits with 1 if the package data differ from the compiled sources. The compiler's metadata
hash in the bytecode depends on file names and settings. The script therefore uses Ape's file names and settings: the
bytecode equals Ape's, and does not depend on the clone's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scripts.compilation import CLONE, CONTRACTS, file_of, laid_out

SAFE_ARTIFACT = Path("node_modules/@safe-global/safe-smart-account/build/artifacts/contracts/Safe.sol/Safe.json")
SAFE_FUNCTIONS = {"addOwnerWithThreshold", "removeOwner", "swapOwner", "changeThreshold", "getThreshold"}
"""Functions by which a Safe changes its owners and threshold, and a getter; the package contains their ABI."""


def main(arguments: list[str] | None = None) -> int:
    """Write the package data, or compare them only (``--check``); return 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1 if they differ")
    options = parser.parse_args(arguments)
    return write(build(CLONE), CLONE, only_check=options.check)


def write(artifacts: dict[str, str], clone: Path, *, only_check: bool) -> int:
    """Write each artifact that differs from its file in a clone; if `only_check` is true, only print the file's name.

    Returns:
        The exit status, which is 1 if `only_check` is true and an artifact differs.
    """
    paths = {clone / "blockota" / "artifacts" / f"{name}.json": text for name, text in artifacts.items()}
    differing = [path for path, text in paths.items() if not path.is_file() or path.read_text() != text]
    names = [str(path.relative_to(clone)) for path in differing]
    if only_check and differing:
        print(f"{', '.join(names)}: not equal to the compiled contracts. Run `make artifacts`.", file=sys.stderr)
        return 1
    for path, name in zip(differing, names, strict=True):
        path.write_text(paths[path])
        print(f"Wrote {name}.")
    return 0


def build(clone: Path) -> dict[str, str]:
    """Return the text of each contract's artifact, by contract name; `install_compiler.py` must have run before."""
    with laid_out(clone) as layout:
        job = layout.job(layout.sources(), {"*": {"*": ["abi", "evm.bytecode.object"]}})
        compiled = layout.compile(job)["contracts"]
    ours = {name: artifact(name, compiled[file_of(name)][name], layout.solidity) for name in CONTRACTS}

    # The package contains only the ABI of some functions of the Safe.
    abi = json.loads((clone / SAFE_ARTIFACT).read_bytes())["abi"]
    chosen = sorted((e for e in abi if e.get("name") in SAFE_FUNCTIONS), key=lambda entry: str(entry["name"]))
    safe = json.dumps({"contractName": "Safe", "abi": chosen}, indent=2, sort_keys=True) + "\n"
    return ours | {"Safe": safe}


def artifact(name: str, compiled: dict[str, Any], solidity: dict[str, Any]) -> str:
    """Return a contract's artifact as sorted JSON, which changes only if the contract changes."""
    content = {
        "contractName": name,
        "abi": sorted(compiled["abi"], key=lambda entry: json.dumps([entry["type"], entry.get("name"), entry])),
        "bytecode": f"0x{compiled['evm']['bytecode']['object']}",
        "compiler": {
            "version": solidity["version"],
            "evmVersion": solidity["evm_version"],
            "optimizerRuns": solidity["optimization_runs"],
            "viaIR": solidity["via_ir"],
        },
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
