"""The results of a mutation campaign are compared with the explanations of surviving mutants."""

from __future__ import annotations

import itertools
import json
from fnmatch import fnmatchcase

import pytest

from scripts.compilation import CLONE, CONTRACTS, files_of
from scripts.mutant_killers import CONTRACT_TESTS, NOT_BY_APE, first_failure, forge_files, runs_by_ape
from scripts.mutants import Fate, complaints, drawn_of, explanations, killed
from scripts.mutation import Mutant

DOCUMENT = """# Mutants

### Kinds
Not an explanation.

#### C.f: operator: `<` → `<=`
Both are false for every value that the loop reaches.

#### C.g: number: `1` → `2`

## Other things
Not an explanation.
"""


def mutant(number: int) -> Mutant:
    """Return a unique mutant."""
    return Mutant("C.f", "number", number, str(number), str(number + 1))


def fates(*, killed_: int, survived: int, same: int = 0) -> list[Fate]:
    """Return test results of killed, surviving and unchanged mutants."""
    contracts = itertools.cycle(CONTRACTS)
    tested = [Fate(next(contracts), "C.sol", mutant(n), "forge", "T.test_f") for n in range(killed_)]
    tested += [Fate("FirmwareReplication", "C.sol", mutant(1000 + n)) for n in range(survived)]
    return tested + [Fate("BlockOTA", "C.sol", mutant(2000 + n), same=True) for n in range(same)]


def test_explanations_are_read_by_name() -> None:
    """The explanation of a mutant is the text between its heading and the next heading."""
    assert explanations(DOCUMENT) == {
        "C.f: operator: `<` → `<=`": "Both are false for every value that the loop reaches.",
        "C.g: number: `1` → `2`": "",
    }


def test_unchanged_bytecode_is_not_a_mutant() -> None:
    """The share of killed mutants does not include mutants with unchanged bytecode."""
    assert killed(fates(killed_=95, survived=5, same=100)) == 0.95
    assert killed([]) == 0.0


def test_enough_killed_and_survivors_explained_passes() -> None:
    """A campaign with 95 % killed mutants of each contract passes if all survivors are explained."""
    campaign = fates(killed_=700, survived=5)
    explained = {fate.mutant.name: "It behaves in the same way." for fate in campaign if fate.survived}
    assert complaints(campaign, explained, whole=True) == []


@pytest.mark.parametrize("explained", [{}, {mutant(1000).name: ""}], ids=["absent", "empty"])
def test_a_survivor_without_an_explanation_is_named(explained: dict[str, str]) -> None:
    """A surviving mutant without an explanation, or with an empty explanation, is reported."""
    found = complaints(fates(killed_=700, survived=1), explained, whole=True)
    assert found == [f"Survived without an explanation: {mutant(1000).name}"]


def test_an_explanation_of_no_survivor_is_named() -> None:
    """An explanation of a mutant that no longer survives is reported if all mutants were tested."""
    campaign = fates(killed_=700, survived=0)
    assert complaints(campaign, {"old": "text"}, whole=True) == ["Explained, but no survivor any more: old"]
    assert complaints(campaign, {"old": "text"}, whole=False) == []


def test_too_few_killed_too_few_mutants_and_a_contract_without_are_named() -> None:
    """A campaign fails if it has too few mutants, too few killed mutants, or a contract without mutants."""
    campaign = [fate for fate in fates(killed_=10, survived=0) if fate.contract != "FirmwareReplication"]
    assert complaints(campaign, {}, whole=True) == [
        "FirmwareReplication has no mutants.",
        f"There are {len(campaign)} mutants, fewer than 60.",
    ]
    campaign = fates(killed_=90, survived=10)
    explained = {fate.mutant.name: "text" for fate in campaign if fate.survived}
    expected = ["56.5% of FirmwareReplication's were killed, less than 95%."]
    assert complaints(campaign, explained, whole=True) == expected


def test_a_sample_has_the_same_mutants_each_time() -> None:
    """A sample has the given number of each contract's mutants, in order.

    Drawing the sample again returns the same mutants.
    """
    campaign = fates(killed_=700, survived=0)
    drawn = drawn_of(campaign, 10)
    assert drawn == drawn_of(campaign, 10) != drawn_of(campaign[::-1], 10)
    assert [sum(fate.contract == name for fate in drawn) for name in CONTRACTS] == [10] * len(CONTRACTS)
    assert sorted(drawn_of(campaign, 1000), key=campaign.index) == sorted(campaign, key=campaign.index)


def test_every_solidity_file_belongs_to_a_contract() -> None:
    """Each file of contracts/, except the interfaces, belongs to exactly one contract."""
    folder = CLONE / "contracts"
    present = {path.relative_to(CLONE).as_posix() for path in folder.rglob("*.sol") if ".cache" not in path.parts}
    listed = [file for contract in CONTRACTS for file in files_of(contract)]
    assert sorted(listed) == sorted(file for file in present if "/interfaces/" not in file)


def test_the_first_failure_of_forge_is_found() -> None:
    """The first failed test is found in forge's JSON output, even after other output."""
    results = {
        "tests/C.t.sol:CTest": {
            "test_results": {"testFuzz_a(uint8)": {"status": "Success"}, "test_b()": {"status": "Failure"}}
        }
    }
    assert first_failure(f"No files changed\n{json.dumps(results)}\n") == "C.t.sol:CTest.test_b"
    assert first_failure("Error: something else") == ""


def test_every_file_of_tests_runs_on_mutants_of_a_contract() -> None:
    """Each contract has tests for forge and in Python, and each test file runs on the mutants of at least one contract.

    Three test files are exceptions, because they do not call the deployed bytecode of a contract. CodeRecord.t.sol and
    MerkleLog.t.sol contain the tested library, and SignedEvent.t.sol calls a library of OpenZeppelin. Halmos runs
    Check*.t.sol.
    """
    folder = CLONE / CONTRACT_TESTS
    python = {path.name for path in folder.glob("test_*.py")} - set(NOT_BY_APE)
    by_ape = {contract: {name for name in python if runs_by_ape(name, contract)} for contract in CONTRACTS}
    assert all(by_ape.values())
    assert set.union(*by_ape.values()) == python

    solidity = {path.name for path in folder.glob("*.t.sol") if not path.name.startswith("Check")}
    by_forge = {contract: {name for name in solidity if fits(name, forge_files(contract))} for contract in CONTRACTS}
    assert all(by_forge.values())
    assert set.union(*by_forge.values()) == solidity - {"CodeRecord.t.sol", "MerkleLog.t.sol", "SignedEvent.t.sol"}


def fits(name: str, pattern: str) -> bool:
    """Return whether a file in the folder of the contracts' tests fits a pattern with braces."""
    names, ending = pattern.removeprefix(f"{CONTRACT_TESTS}/{{").split("}")
    return any(fnmatchcase(name, one + ending) for one in names.split(","))
