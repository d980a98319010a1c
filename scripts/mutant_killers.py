"""The tests that mutants are given to, each in a copy of the tree: forge first, and Ape for what is left.

Both keep what they compiled, and compile again when a source changes. So a mutant's bytecode is put in the place of the
contract's, the sources stay, and a run takes a second or two with forge. (Foundry's tests take the bytecode from there
by the option ``dynamic_test_linking``.)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path

from scripts.compilation import CLONE
from scripts.forge import environment, find_forge

COPIED = ("contracts", "tests", "blockota", "scripts", "ape-config.yaml", "foundry.toml", "pyproject.toml")
LINKED = ("node_modules",)
LIMIT = 180.0
"""Seconds after which a run counts as failed: the mutant does not come to an end."""
FORGE_SETTINGS = {
    "FOUNDRY_PROFILE": "default",
    "FOUNDRY_DYNAMIC_TEST_LINKING": "true",
    "FOUNDRY_GAS_LIMIT": "60000000",  # a mutant that loops for ever ends here, instead of after seconds a call
    "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0",  # nobody reads the shortest way to fail
}
SEED = "0x626c6f636b6f7461"
"""Foundry draws the same numbers in every run, so that a mutant's fate can be repeated."""
NOT_BY_APE = (
    "test_artifacts.py",
    "test_compiler.py",
    "test_documented.py",
    "test_forge.py",
    "test_gas.py",
    "test_replication_gas.py",
)
"""What would fail for any change of the source or of its price, or asks no contract, and so proves nothing."""
KILLED_BY_TIME = "time"
CONTRACT_TESTS = "tests/contracts"
OF_HALMOS = ("Check", "Halmos")
"""Beginnings of the files that forge compiles, and finds no test in."""


@dataclass(frozen=True)
class Variant:
    """A contract as it was changed.

    Attributes:
        contract: its name.
        source: the text of its file.
        creation: its creation bytecode.
        name: the change's name.
    """

    contract: str
    source: str
    creation: bytes
    name: str = ""


class Forge:
    """Foundry's tests with a contract's bytecode exchanged.

    Args:
        folder: the copy of the tree to work in, which is built already.
    """

    name = "forge"

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    @staticmethod
    def files(root: Path, _contract: str, *, test: str = "") -> list[Path]:
        """What a result depends on: the killing test's file and what it may import, or all tests."""
        suites = (
            [root / CONTRACT_TESTS / test.partition(":")[0]] if ":" in test else (root / CONTRACT_TESTS).glob("*.t.sol")
        )
        shared = (path for path in (root / CONTRACT_TESTS).glob("*.sol") if not path.name.endswith(".t.sol"))
        return sorted(path for path in (*suites, *shared) if not path.name.startswith(OF_HALMOS))

    @staticmethod
    def prepare(folder: Path) -> None:
        """Build the copy of the tree that a folder is.

        Raises:
            RuntimeError: it cannot be built.
        """
        done = forge(folder, "build")
        if done is None or done.returncode:
            raise RuntimeError(f"forge does not build the tests: {done and done.stderr}")

    def kills(self, variant: Variant) -> str:
        """What killed the variant: the first test that failed; nothing when all pass."""
        path = self.folder / ".build" / "forge" / "out" / f"{variant.contract}.sol" / f"{variant.contract}.json"
        with exchanged(path, ("bytecode", "object"), variant.creation):
            done = forge(self.folder, "test", "--fail-fast", "--fuzz-seed", SEED, "--json")
        if done is None:
            return KILLED_BY_TIME
        return first_failure(done.stdout) or ("forge" if done.returncode else "")


class Ape:
    """The outlines in Python with a contract's bytecode exchanged.

    Args:
        folder: the copy of the tree to work in, which is compiled already.
    """

    name = "Ape"

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    @staticmethod
    def files(root: Path, contract: str, *, test: str = "") -> list[Path]:
        """What a result depends on: the killing test's file and its fixtures, or all outlines of the contract."""
        outlines = [root / CONTRACT_TESTS / test.partition(":")[0]] if ":" in test else outlines_of(contract, root)
        return [*outlines, root / CONTRACT_TESTS / "conftest.py"]

    @staticmethod
    def prepare(folder: Path) -> None:
        """Compile the copy of the tree that a folder is.

        Raises:
            RuntimeError: it cannot be compiled.
        """
        done = run([str(Path(sys.executable).with_name("ape")), "compile"], folder, dict(os.environ))
        if done is None or done.returncode:
            raise RuntimeError(f"Ape does not compile the contracts: {done and done.stderr}")

    def kills(self, variant: Variant) -> str:
        """What killed the variant: the first test that failed; nothing when all pass."""
        tests = [str(path.relative_to(self.folder)) for path in outlines_of(variant.contract, self.folder)]
        command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-p", "no:cacheprovider"]
        place = ("contractTypes", variant.contract, "deploymentBytecode", "bytecode")
        with exchanged(self.folder / ".build" / "__local__.json", place, variant.creation):
            done = run(command, self.folder, dict(os.environ))
        if done is None:
            return KILLED_BY_TIME
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if not failed:
            return "pytest" if done.returncode else ""
        return failed[0].split(" ", 1)[1].split(" - ")[0].removeprefix(f"{CONTRACT_TESTS}/")


KILLERS: tuple[type[Forge | Ape], ...] = (Forge, Ape)
"""In the order in which a mutant meets them."""


def first_failure(output: str) -> str:
    """The first failing test in forge's JSON, as "file:contract.function"; nothing when none failed.

    Args:
        output: results by "file:contract", then by test.
    """
    line = next((line for line in output.splitlines() if line.startswith("{")), "{}")
    for suite, results in json.loads(line).items():
        for test, result in results["test_results"].items():
            if result["status"] == "Failure":
                return f"{suite.split('/')[-1]}.{test.split('(')[0]}"
    return ""


def outlines_of(contract: str, folder: Path) -> list[Path]:
    """The files of Ape tests that a contract is given to."""
    files = sorted((folder / CONTRACT_TESTS).glob("test_*.py"))
    of_replication = contract == "FirmwareReplication"
    wanted = [path for path in files if path.name.startswith("test_replication") == of_replication]
    return [path for path in wanted if path.name not in NOT_BY_APE]


@contextmanager
def exchanged(path: Path, place: Sequence[str], creation: bytes) -> Iterator[None]:
    """Put bytecode into a JSON file while the block runs; `place` is the way to it."""
    kept = path.read_text()
    artifact = json.loads(kept)
    *way, last = place
    reduce(getitem, way, artifact)[last] = f"0x{creation.hex()}"
    path.write_text(json.dumps(artifact))
    try:
        yield
    finally:
        path.write_text(kept)


def forge(folder: Path, *words: str) -> subprocess.CompletedProcess[str] | None:
    """Run forge in a copy of the tree; what one mutant failed at is not tried first on the next."""
    for remembered in ("fuzz", "invariant"):
        shutil.rmtree(folder / ".build" / "forge" / remembered, ignore_errors=True)
    return run([str(find_forge()), *words], folder, environment() | FORGE_SETTINGS)


def copy_tree(folder: Path) -> None:
    """Copy what the tests need into an empty folder; packages are linked."""
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
    """Run a command in a folder; None when it does not end in time, and what it started has ended as well."""
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
