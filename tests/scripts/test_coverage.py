"""Coverage reports in lcov format are parsed, and uncovered code is listed."""

from __future__ import annotations

from scripts.run_coverage import Coverage, missing, read_lcov

REPORT = """TN:
SF:contracts/A.sol
DA:3,5
DA:4,0
FN:3,A.f
FNDA:5,A.f
BRDA:3,0,0,5
BRDA:4,1,0,-
BRDA:4,1,1,0
end_of_record
TN:
SF:contracts/B.sol
DA:1,1
BRDA:1,0,0,2
end_of_record
"""


def test_lines_and_branches_are_read_by_file() -> None:
    """A branch on a line that was not reached counts as not taken."""
    files = read_lcov(REPORT.splitlines())
    assert files["contracts/A.sol"] == Coverage({3: 5, 4: 0}, [(3, 5), (4, 0), (4, 0)])
    assert files["contracts/A.sol"].summary() == "1 of 2 lines, 1 of 3 branches"
    assert files["contracts/B.sol"] == Coverage({1: 1}, [(1, 2)])


def test_what_is_not_reached_is_named() -> None:
    """Each uncovered line and branch is listed with its file and line number."""
    files = read_lcov(REPORT.splitlines())
    branch = "contracts/A.sol:4 has a branch that is not taken."
    assert list(missing(files, ["contracts/A.sol"])) == ["contracts/A.sol:4 is not reached.", branch, branch]
    assert list(missing(files, ["contracts/B.sol"])) == []


def test_what_was_not_measured_is_named() -> None:
    """A coverage report without a contract, or without its lines, is an error."""
    assert list(missing({}, ["contracts/A.sol"])) == ["contracts/A.sol is not in the report."]
    assert list(missing({"contracts/A.sol": Coverage()}, ["contracts/A.sol"])) == [
        "contracts/A.sol is not in the report."
    ]
