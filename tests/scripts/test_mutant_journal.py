"""What earlier campaigns found is asked again when what decided it has changed, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.mutant_journal import Examined, Journal
from scripts.mutants import Fate, fate_of
from scripts.mutation import Mutant

MUTANT = Mutant("C.f", "number", 0, "1", "2")
BY_FORGE = Examined("forge", "C", MUTANT.name)
BY_APE = Examined("Ape", "C", MUTANT.name)
BY_BYTECODE = Examined("bytecode", "C", MUTANT.name)
FILES = {
    "contracts/C.sol": "contract C {}",
    "tests/contracts/C.t.sol": "contract CTest {}",
    "tests/contracts/Handler.sol": "contract Handler {}",
    "tests/contracts/test_c.py": "",
    "tests/contracts/conftest.py": "",
    "ape-config.yaml": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree."""
    for name, text in FILES.items():
        write(tmp_path / name, text)
    return tmp_path


@pytest.fixture
def campaign(root: Path) -> Callable[[], Journal]:
    """Begin a campaign: read the journal anew."""
    return lambda: Journal(root / "fates.jsonl", root=root)


def write(path: Path, text: str) -> None:
    """Write a file, wherever it lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_result_is_there_in_the_next_campaign(campaign: Callable[[], Journal]) -> None:
    """As soon as it was added, whether or not the campaign came to its end."""
    stopped = campaign()
    stopped.add(BY_FORGE, "")
    stopped.add(BY_APE, "test_c.py::test_f")
    assert campaign().find(BY_FORGE) == ""
    assert campaign().find(BY_APE) == "test_c.py::test_f"
    assert campaign().find(BY_BYTECODE) is None


def test_a_line_that_was_cut_off_is_passed_over(campaign: Callable[[], Journal], root: Path) -> None:
    """The machine may stop in the middle of it; the next result stands on a line of its own."""
    campaign().add(BY_FORGE, "C.t.sol:CTest.test_f")
    with (root / "fates.jsonl").open("a") as file:
        file.write('\n{"examiner": "Ape", "contr')
    campaign().add(BY_APE, "")
    assert campaign().find(BY_FORGE) == "C.t.sol:CTest.test_f"
    assert campaign().find(BY_APE) == ""


@pytest.mark.parametrize("name", ["contracts/C.sol", "tests/contracts/C.t.sol", "tests/contracts/Handler.sol"])
@pytest.mark.parametrize("result", ["", "C.t.sol:CTest.test_f", "time"], ids=["passed", "killed", "time"])
def test_a_change_of_what_decided_makes_a_result_void(
    campaign: Callable[[], Journal], root: Path, *, name: str, result: str
) -> None:
    """The contract, the test's file, and what that may import."""
    campaign().add(BY_FORGE, result)
    write(root / name, FILES[name] + "// changed")
    assert campaign().find(BY_FORGE) is None


@pytest.mark.parametrize(
    ("examined", "killed", "added"),
    [
        pytest.param(BY_FORGE, "C.t.sol:CTest.test_f", "D.t.sol", id="forge"),
        pytest.param(BY_APE, "test_c.py::test_f", "test_d.py", id="Ape"),
    ],
)
def test_a_new_file_of_tests_asks_for_survivors_only(
    campaign: Callable[[], Journal], root: Path, *, examined: Examined, killed: str, added: str
) -> None:
    """What was killed stays so."""
    survivor = Examined(examined.examiner, "C", "another")
    campaign().add(examined, killed)
    campaign().add(survivor, "")
    write(root / "tests" / "contracts" / added, "")
    assert campaign().find(examined) == killed
    assert campaign().find(survivor) is None


def test_files_of_halmos_decide_nothing(campaign: Callable[[], Journal], root: Path) -> None:
    """Forge finds no tests in them."""
    campaign().add(BY_FORGE, "")
    write(root / "tests/contracts/CheckC.t.sol", "contract CheckC {}")
    assert campaign().find(BY_FORGE) == ""


def test_a_fate_is_known_when_all_were_asked(campaign: Callable[[], Journal]) -> None:
    """A campaign that goes on leaves out only these mutants."""
    journal = campaign()
    assert fate_of(journal, "C", MUTANT) is None
    journal.add(BY_FORGE, "")
    assert fate_of(journal, "C", MUTANT) is None
    journal.add(BY_APE, "")
    assert fate_of(journal, "C", MUTANT) is None
    journal.add(BY_BYTECODE, "")
    assert fate_of(journal, "C", MUTANT) == Fate("C", MUTANT)
    journal.add(BY_BYTECODE, "same")
    assert fate_of(journal, "C", MUTANT) == Fate("C", MUTANT, same=True)


@pytest.mark.parametrize("examiner", ["solc", "forge", "Ape"])
def test_one_objection_is_enough(campaign: Callable[[], Journal], examiner: str) -> None:
    """Nobody else is asked, nor asked again."""
    campaign().add(Examined(examiner, "C", MUTANT.name), "objection")
    assert fate_of(campaign(), "C", MUTANT) == Fate("C", MUTANT, examiner, "objection")
