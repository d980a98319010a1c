"""The mutation operators change a small contract as intended."""

from __future__ import annotations

from typing import Any

import pytest
import solcx

from scripts.mutation import Mutant, enumerations, mutants_of

SOURCE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;
interface I { enum State { None, Open, Shut } event Told(uint64 indexed one, uint64 two); error Low(uint256 x); }
/// @notice ⟨Größe⟩: places are bytes, not characters; require(false, "not code");
contract C is I {
    State public state;
    uint256 public limit = 32;
    modifier guarded() { require(msg.sender != address(0), Low(0)); _; }
    function open(uint64 x, uint64 y) external guarded {
        require(x < limit && !(y == 5), Low(x));
        state = State.Open;
        emit Told(x, y);
    }
    function count(uint256 n) external pure returns (uint256 k) {
        for (uint256 i = 0; i < n; ++i) { if (i != 3) k += i; }
    }
    function never() external pure { revert Low(1); }
    function letter(bytes1 b) external pure returns (bool) { return b >= "!"; }
}
"""


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    """The syntax tree of the small contract."""
    job = {
        "language": "Solidity",
        "sources": {"C.sol": {"content": SOURCE}},
        "settings": {"outputSelection": {"*": {"": ["ast"]}}},
    }
    compiled = solcx.compile_standard(job, solc_version="0.8.28")
    found: dict[str, Any] = compiled["sources"]["C.sol"]["ast"]
    return found


@pytest.fixture(scope="module")
def mutants(tree: dict[str, Any]) -> list[Mutant]:
    """All mutants of the small contract."""
    return mutants_of(SOURCE.encode(), tree, enums=enumerations(tree))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("C.open: modifier removed: `guarded` → ``", id="modifier"),
        pytest.param("C.open: require removed: `require(x < limit && !(y == 5), Low(x));` → `{}`", id="require"),
        pytest.param("C.open: effect removed: `state = State.Open;` → `{}`", id="effect"),
        pytest.param("C.open: event removed: `emit Told(x, y);` → `{}`", id="event"),
        pytest.param("C.open: arguments swapped: `x, y` → `y, x`", id="arguments"),
        pytest.param("C.open: operator: `<` → `<=`", id="boundary"),
        pytest.param("C.open: operator: `<` → `>=`", id="opposite"),
        pytest.param("C.open: operator: `&&` → `||`", id="and"),
        pytest.param("C.open: condition dropped: `x < limit && !(y == 5)` → `x < limit`", id="left side"),
        pytest.param("C.open: condition dropped: `x < limit && !(y == 5)` → `!(y == 5)`", id="right side"),
        pytest.param("C.open: condition negated: `!(y == 5)` → `(y == 5)`", id="not"),
        pytest.param("C.open: number: `5` → `6`", id="number above"),
        pytest.param("C.open: number: `5` → `4`", id="number below"),
        pytest.param("C.open: state: `State.Open` → `State.None`", id="one state"),
        pytest.param("C.open: state: `State.Open` → `State.Shut`", id="another state"),
        pytest.param("C.count: loop not entered: `i < n` → `false`", id="loop"),
        pytest.param("C.count: branch forced: `i != 3` → `true`", id="always"),
        pytest.param("C.count: branch forced: `i != 3` → `false`", id="never"),
        pytest.param("C.count: operator: `++i` → `--i`", id="step"),
        pytest.param("C.never: revert removed: `revert Low(1);` → `{}`", id="revert"),
        pytest.param('C.letter: number: `"!"` → `bytes1(hex"20")`', id="character"),
        pytest.param("C: sender: `msg.sender` → `tx.origin`", id="sender"),
        pytest.param("C: number: `32` → `33`", id="outside of functions"),
    ],
)
def test_every_kind_of_change_is_made(mutants: list[Mutant], name: str) -> None:
    """Every mutation operator produces the expected mutant."""
    assert name in [mutant.name for mutant in mutants]


def test_names_are_unique_and_changes_are_changes(mutants: list[Mutant]) -> None:
    """Every mutant has a unique name and differs from the source."""
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert all(mutant.apply(SOURCE.encode()) != SOURCE.encode() for mutant in mutants)


def test_only_code_is_changed(mutants: list[Mutant]) -> None:
    """Mutants do not change comments or interfaces, and are at the right place after multi-byte characters."""
    interface, comment = SOURCE.splitlines()[2:4]
    for mutant in mutants:
        changed = mutant.apply(SOURCE.encode()).decode().splitlines()
        assert changed[2:4] == [interface, comment]


def test_a_mutant_fits_only_its_source(mutants: list[Mutant]) -> None:
    """Applying a mutant to another source raises an error."""
    with pytest.raises(ValueError, match="not in the source"):
        mutants[0].apply(b"/" * len(SOURCE.encode()))


def test_the_step_of_a_loop_is_not_removed(mutants: list[Mutant]) -> None:
    """Removing statements does not remove the step of a `for` loop."""
    assert not [mutant for mutant in mutants if mutant.kind == "effect removed" and mutant.original.startswith("++")]
