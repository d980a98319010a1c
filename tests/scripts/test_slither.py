"""The findings of Slither are compared with their explanations."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.run_slither import SlitherFinding, complaints, count_analysed, findings

TIMESTAMP = SlitherFinding("timestamp", "BlockOTA.isAuthentic")
REENTRANCY = SlitherFinding("reentrancy-eth", "BlockOTA.publish")


def element(name: str, *, parent: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a source element in Slither's format."""
    return {"name": name, "type_specific_fields": {"parent": parent} if parent else {}}


def test_a_function_is_named_with_its_contract() -> None:
    """A finding in a contract's function contains the names of the contract and the function."""
    of_contract = element("publish", parent={"type": "contract", "name": "BlockOTA"})
    results: list[dict[str, Any]] = [
        {"check": "reentrancy-eth", "elements": [of_contract, element("x = 1")]},
        {"check": "solc-version", "elements": [element("0.8.28", parent={"type": "file", "name": "BlockOTA.sol"})]},
        {"check": "nothing", "elements": []},
    ]
    assert findings(results) == [SlitherFinding("nothing", ""), REENTRANCY, SlitherFinding("solc-version", "0.8.28")]


def test_what_is_found_and_explained_passes() -> None:
    """An explained finding is accepted, even if it occurs twice."""
    assert complaints([TIMESTAMP, TIMESTAMP], {TIMESTAMP: "seconds do not matter"}) == []


def test_what_is_found_without_an_explanation_is_named() -> None:
    """A finding of the same detector in another function needs its own explanation."""
    other = SlitherFinding("timestamp", "BlockOTA.publish")
    found = complaints([TIMESTAMP, other], {TIMESTAMP: "seconds do not matter"})
    assert found == ["BlockOTA.publish: timestamp is not explained."]


def test_an_explanation_of_nothing_is_named() -> None:
    """An explanation of a finding that no longer occurs is reported."""
    found = complaints([TIMESTAMP], {TIMESTAMP: "seconds do not matter", REENTRANCY: "there is no call"})
    assert found == ["BlockOTA.publish: reentrancy-eth is explained, but not found any more."]


@pytest.mark.parametrize(
    ("output", "count"),
    [
        pytest.param(
            "INFO:Slither:input.json analyzed (10 contracts with 102 detectors), 5 result(s) found", 10, id="10"
        ),
        pytest.param("input.json analyzed (0 contracts with 102 detectors), 0 result(s) found", 0, id="none"),
        pytest.param("Traceback (most recent call last):", 0, id="broken"),
    ],
)
def test_what_was_analysed_is_counted(output: str, count: int) -> None:
    """The number of analysed contracts is read from Slither's output; a missing number counts as 0."""
    assert count_analysed(output) == count
