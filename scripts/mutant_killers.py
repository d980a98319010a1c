"""The test suites that run on mutants: the tests of forge, then the Python tests of the contracts.

Each test suite runs in a copy of the repository, and deploys the bytecode that the package ships. In the copy, the
mutant's bytecode replaces the package's bytecode. The package and the tests are therefore not compiled again, and a run
of forge takes one to two seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.compilation import CLONE
from scripts.forge import SEED, environment, find_forge

COPIED = ("contracts", "tests", "blockota", "scripts", "ape-config.yaml", "foundry.toml", "pyproject.toml")
LINKED = ("node_modules",)
LIMIT = 180.0
"""The time in seconds after which a run counts as failed, because the mutant does not terminate."""
FORGE_SETTINGS = {
    "FOUNDRY_PROFILE": "default",
    "FOUNDRY_GAS_LIMIT": "120000000",  # ends endless loops early; 256 registrations need more than 60 million
    "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0",  # the shortest failing sequence is not used
}
NOT_BY_APE = (
    "test_artifacts.py",
    "test_compiler.py",
    "test_devices_gas.py",
    "test_documented.py",
    "test_forge.py",
    "test_gas.py",
    "test_identities_gas.py",
    "test_ledger_gas.py",
    "test_replication_gas.py",
)
"""Tests that fail for every change of the source or of its gas, or that do not use a contract."""
PYTHON_TESTS = {
    "FirmwareReplication": ("replication",),
    "Producers": ("producers",),
    "IdentityRegistry": ("identities",),
    "DeviceRegistry": ("devices", "ledger", "orders"),
    "UpdateLedger": ("ledger",),
    "UpdateOrders": ("orders",),
}
"""The beginnings of the names, after "test_", of the Python tests that run on mutants of a contract. All other files
test BlockOTA. The tests of UpdateLedger and UpdateOrders use the real DeviceRegistry."""
_VENDORS = ("BlockOTA", "FirmwareReplication", "Events", "Fuzz", "Lists", "Names")
FORGE_TESTS = {"BlockOTA": _VENDORS, "FirmwareReplication": _VENDORS, "DeviceRegistry": ("Device",)}
"""The beginnings of the names of forge's test files that run on mutants of a contract, if they are not its own name."""
KILLED_BY_TIME = "time"
CONTRACT_TESTS = "tests/contracts"
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Variant:
    """A changed contract: its name, the changed file and text, the creation bytecode, and the name of the change."""

    contract: str
    file: str
    source: str
    creation: bytes = b""
    name: str = ""


@dataclass(frozen=True)
class Forge:
    """Foundry's tests, which run on replaced bytecode in a compiled copy of the repository."""

    folder: Path
    name = "forge"

    @staticmethod
    def prepare(folder: Path) -> None:
        """Compile the contracts and tests in a copy of the repository."""
        done = forge(folder, "build")
        if done is None or done.returncode:
            raise RuntimeError(f"forge cannot compile the tests: {done and done.stderr}")

    def kills(self, variant: Variant) -> str:
        """Run the tests on a variant; return the first test that failed, "" if all passed."""
        with exchanged(self.folder, variant):
            words = ("--fail-fast", "--match-path", forge_files(variant.contract), "--fuzz-seed", SEED, "--json")
            done = forge(self.folder, "test", *words)
        if done is None:
            return KILLED_BY_TIME
        return first_failure(done.stdout) or ("forge" if done.returncode else "")


@dataclass(frozen=True)
class Ape:
    """The Python tests, which run on replaced bytecode in a copy of the repository."""

    folder: Path
    name = "Ape"

    @staticmethod
    def prepare(folder: Path) -> None:
        """Run one test file in a copy of the repository, to check that the tests can run there."""
        done = run([*PYTEST, f"{CONTRACT_TESTS}/test_reading.py"], folder, dict(os.environ))
        if done is None or done.returncode:
            raise RuntimeError(f"the tests fail on the unchanged contracts: {done and done.stdout}")

    def kills(self, variant: Variant) -> str:
        """Run the tests on a variant; return the first test that failed, "" if all passed."""
        names = sorted(path.name for path in (self.folder / CONTRACT_TESTS).glob("test_*.py"))
        tests = [f"{CONTRACT_TESTS}/{name}" for name in names if runs_by_ape(name, variant.contract)]
        with exchanged(self.folder, variant):
            done = run([*PYTEST, *tests], self.folder, os.environ | {"BLOCKOTA_MUTANTS": "1"})
        if done is None:
            return KILLED_BY_TIME
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if not failed:
            return "pytest" if done.returncode else ""
        return failed[0].split(" ", 1)[1].split(" - ")[0].removeprefix(f"{CONTRACT_TESTS}/")


def forge_files(contract: str) -> str:
    """Return the glob that selects the forge test files for a contract's mutants."""
    names = FORGE_TESTS.get(contract, (contract,))
    return f"{CONTRACT_TESTS}/{{{','.join(f'{name}*' for name in names)}}}.t.sol"


def runs_by_ape(test_file: str, contract: str) -> bool:
    """Return whether a file of Python tests runs on mutants of a contract."""
    if test_file in NOT_BY_APE:
        return False
    tested = {name for name, beginnings in PYTHON_TESTS.items() if test_file[len("test_") :].startswith(beginnings)}
    return contract in (tested or {"BlockOTA"})


KILLERS: tuple[type[Forge | Ape], ...] = (Forge, Ape)
"""The test suites, in the order in which they run."""


def first_failure(output: str) -> str:
    """Return the first failing test in forge's JSON output, as "file:contract.function"; empty if none failed."""
    line = next((line for line in output.splitlines() if line.startswith("{")), "{}")
    for suite, results in json.loads(line).items():
        for test, result in results["test_results"].items():
            if result["status"] == "Failure":
                return f"{suite.split('/')[-1]}.{test.split('(')[0]}"
    return ""


@contextmanager
def exchanged(folder: Path, variant: Variant) -> Iterator[None]:
    """Replace the bytecode of a contract in a copy of the repository while the block runs."""
    path = folder / "blockota" / "artifacts" / f"{variant.contract}.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"bytecode": f"0x{variant.creation.hex()}"}))
    try:
        yield
    finally:
        path.write_text(kept)


def forge(folder: Path, *words: str) -> subprocess.CompletedProcess[str] | None:
    """Run forge in a copy of the repository, after deleting the failing cases that forge saved for earlier mutants."""
    for remembered in ("fuzz", "invariant"):
        shutil.rmtree(folder / ".build" / "forge" / remembered, ignore_errors=True)
    return run([str(find_forge()), *words], folder, environment() | FORGE_SETTINGS)


def copy_tree(folder: Path) -> None:
    """Copy the sources that the tests need into an empty folder, and link ``node_modules`` there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        if (CLONE / name).is_dir():
            shutil.copytree(CLONE / name, folder / name, ignore=shutil.ignore_patterns(".cache", "__pycache__"))
        elif (CLONE / name).exists():
            shutil.copy(CLONE / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(CLONE / name)


def run(command: list[str], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str] | None:
    """Run a command in a folder; kill it with its child processes and return None if it exceeds `LIMIT`."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
