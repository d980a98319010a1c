"""Compile the contracts into package data, so that an installed BlockOTA needs no compiler.

``.venv/bin/python scripts/build_artifacts.py`` writes ``blockota/artifacts/<contract>.json``. With ``--check`` it
writes nothing, and exits with 1 when the package data are not what the sources compile to. The settings are those of
ape-config.yaml, and files have the names that Ape gives them, so that the bytecode equals Ape's to the last byte
(the compiler hashes names and settings into it) and does not depend on the folder of the clone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import solcx
import yaml

CLONE = Path(__file__).resolve().parent.parent
CONTRACTS = ("BlockOTA", "FirmwareReplication")
"""Contracts whose ABI and bytecode the package carries."""
SAFE_ARTIFACT = Path("node_modules/@safe-global/safe-smart-account/build/artifacts/contracts/Safe.sol/Safe.json")
SAFE_FUNCTIONS = {"addOwnerWithThreshold", "removeOwner", "swapOwner", "changeThreshold"}
"""Functions by which a Safe changes its owners and threshold; the package carries their ABI."""


def main(arguments: list[str] | None = None) -> int:
    """Write the package data, or compare them; the exit status is 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1 if they differ")
    options = parser.parse_args(arguments)
    return write(build(CLONE), CLONE, only_check=options.check)


def write(artifacts: dict[str, str], clone: Path, *, only_check: bool) -> int:
    """Write the artifacts that differ from a clone's package data, or only name them on stderr.

    Args:
        artifacts: text by the name of the contract.
        clone: the folder that contains ``blockota``.
        only_check: compare, and write nothing.

    Returns:
        The exit status: 1 if `only_check` and a file differs.
    """
    paths = {clone / "blockota" / "artifacts" / f"{name}.json": text for name, text in artifacts.items()}
    differing = [path for path, text in paths.items() if not path.is_file() or path.read_text() != text]
    names = [str(path.relative_to(clone)) for path in differing]
    if only_check and differing:
        print(f"{', '.join(names)}: not what contracts/ compiles to. Run `make artifacts`.", file=sys.stderr)
        return 1
    for path, name in zip(differing, names, strict=True):
        path.write_text(paths[path])
        print(f"Wrote {name}.")
    return 0


def build(clone: Path) -> dict[str, str]:
    """The text of each contract's artifact, by its name; the compiler must be installed (`install_compiler.py`)."""
    config = yaml.safe_load((clone / "ape-config.yaml").read_text())
    compiled = compile_contracts(clone, config)
    ours = {name: artifact(name, compiled[f"contracts/{name}.sol"][name], config["solidity"]) for name in CONTRACTS}
    return ours | {"Safe": safe_artifact(clone)}


def safe_artifact(clone: Path) -> str:
    """The artifact of the Safe: the ABI of `SAFE_FUNCTIONS`."""
    abi = json.loads((clone / SAFE_ARTIFACT).read_bytes())["abi"]
    chosen = sorted((e for e in abi if e.get("name") in SAFE_FUNCTIONS), key=lambda entry: str(entry["name"]))
    return json.dumps({"contractName": "Safe", "abi": chosen}, indent=2, sort_keys=True) + "\n"


def compile_contracts(clone: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Compile everything in contracts/ in one run; the result is by file, then by contract."""
    with TemporaryDirectory() as folder:
        layout = Path(folder)
        remappings = lay_out(clone, layout, config)
        sources = sorted(path.relative_to(layout).as_posix() for path in (layout / "contracts").rglob("[!.]*.sol"))
        own = [name for name in sources if "/.cache/" not in name]
        output: dict[str, Any] = solcx.compile_standard(
            {
                "language": "Solidity",
                "sources": {name: {"content": (layout / name).read_text()} for name in own},
                "settings": settings(config["solidity"], remappings),
            },
            solc_version=config["solidity"]["version"],
            base_path=layout,
        )
    return dict(output["contracts"])


def lay_out(clone: Path, layout: Path, config: dict[str, Any]) -> list[str]:
    """Copy sources and dependencies to where Ape's compiler plugin puts them; returns the compiler's remappings."""
    shutil.copytree(clone / "contracts", layout / "contracts", ignore=shutil.ignore_patterns(".cache"))
    for dependency in config["dependencies"]:
        cached = layout / "contracts" / ".cache" / dependency["name"] / dependency["version"]
        shutil.copytree(clone / "node_modules" / dependency["npm"], cached)
    pairs = (remapping.split("=") for remapping in config["solidity"]["import_remapping"])
    return sorted(f"{name}=contracts/.cache/{target}" for name, target in pairs)


def settings(solidity: dict[str, Any], remappings: list[str]) -> dict[str, Any]:
    """The compiler's settings as its standard JSON input has them."""
    return {
        "optimizer": {"enabled": solidity["optimize"], "runs": solidity["optimization_runs"]},
        "evmVersion": solidity["evm_version"],
        "viaIR": solidity["via_ir"],
        "remappings": remappings,
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    }


def artifact(name: str, compiled: dict[str, Any], solidity: dict[str, Any]) -> str:
    """The artifact as JSON, sorted, so that a change in it is a change in the contract."""
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
