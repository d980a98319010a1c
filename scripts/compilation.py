"""Compile the contracts with the same file names and settings as Ape, for the package data and other tools.

The sources and their dependencies are copied into a temporary folder and compiled with the settings of ape-config.yaml.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from solcx.install import get_executable

CLONE = Path(__file__).resolve().parent.parent
CONTRACTS = (
    "BlockOTA",
    "FirmwareReplication",
    "Producers",
    "IdentityRegistry",
    "DeviceRegistry",
    "UpdateLedger",
    "UpdateOrders",
)
"""Contracts whose ABI and bytecode the package contains, in the order of docs/contracts.md."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "IdentityRegistry": ("CodeRecord", "IdentityKeys"),
    "DeviceRegistry": (
        "Texts",
        "devices/DeviceRecords",
        "devices/DeviceRegistrants",
        "devices/DeviceSites",
        "devices/DeviceSpecs",
        "devices/DeviceVersions",
        "devices/IOTRecords",
    ),
    "UpdateLedger": ("MerkleLog",),
}
"""The further files whose code is part of a contract. A file of several contracts stands at one of them."""
Selection = dict[str, dict[str, list[str]]]


class CompilationError(Exception):
    """The compiler reported errors in the sources; `files` contains the names of the files with an error."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        self.files = {error["sourceLocation"]["file"] for error in errors if "sourceLocation" in error}
        super().__init__("\n".join(error["formattedMessage"] for error in errors))


@dataclass(frozen=True)
class Layout:
    """A folder with contracts/ and its dependencies, and the compiler's remappings and settings."""

    folder: Path
    remappings: list[str]
    solidity: dict[str, Any]

    def sources(self) -> dict[str, str]:
        """Return the text of each file in contracts/ by name, without the dependencies."""
        files = sorted((self.folder / "contracts").rglob("*.sol"))
        names = {path.relative_to(self.folder).as_posix(): path for path in files}
        return {name: path.read_text() for name, path in names.items() if "/.cache/" not in name}

    def job(self, sources: Mapping[str, str], selection: Selection, **changes: Any) -> dict[str, Any]:
        """Return the compiler's standard JSON input; `changes` replace settings of ape-config.yaml."""
        solidity = self.solidity | changes
        settings = {
            "optimizer": {"enabled": solidity["optimize"], "runs": solidity["optimization_runs"]},
            "evmVersion": solidity["evm_version"],
            "viaIR": solidity["via_ir"],
            "remappings": self.remappings,
            "outputSelection": selection,
        }
        content = {name: {"content": text} for name, text in sources.items()}
        return {"language": "Solidity", "sources": content, "settings": settings}

    def compile(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run the compiler, and return its standard JSON output.

        Raises:
            CompilationError: a source has an error.
        """
        done = subprocess.run(
            [str(compiler(self.solidity)), "--standard-json", "--base-path", str(self.folder)],
            input=json.dumps(job),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        output: dict[str, Any] = json.loads(done.stdout)
        if errors := [error for error in output.get("errors", []) if error["severity"] == "error"]:
            raise CompilationError(errors)
        return output


@contextmanager
def laid_out(clone: Path = CLONE) -> Iterator[Layout]:
    """Copy the contracts of a clone into a temporary folder, which exists inside the ``with`` block only."""
    config = yaml.safe_load((clone / "ape-config.yaml").read_text())
    with TemporaryDirectory() as name:
        folder = Path(name)
        # The files have the same names as for Ape's compiler plugin, because the compiler hashes the names.
        shutil.copytree(clone / "contracts", folder / "contracts", ignore=shutil.ignore_patterns(".cache"))
        for dependency in config["dependencies"]:
            cached = folder / "contracts" / ".cache" / dependency["name"] / dependency["version"]
            shutil.copytree(clone / "node_modules" / dependency["npm"], cached)
        pairs = (remapping.split("=") for remapping in config["solidity"]["import_remapping"])
        remappings = sorted(f"{package}=contracts/.cache/{target}" for package, target in pairs)
        yield Layout(folder, remappings, config["solidity"])


def file_of(contract: str) -> str:
    """Return the name of the file that defines a contract or one of the `PARTS`."""
    return f"contracts/{contract}.sol"


def files_of(contract: str) -> tuple[str, ...]:
    """Return the names of the files whose code is part of a contract; its own file is the first."""
    return tuple(file_of(name) for name in (contract, *PARTS.get(contract, ())))


def compiler(solidity: Mapping[str, Any]) -> Path:
    """Return the path of the compiler that `install_compiler.py` installed."""
    return Path(str(get_executable(solidity["version"])))
