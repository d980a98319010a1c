"""Gas figures are compared with the snapshot and written into the table of a document."""

from __future__ import annotations

import pytest

from benchmarks.gas import cells, inserted, markdown, regressions, unmeasured
from benchmarks.gas_scenarios import Cost
from scripts.compilation import CONTRACTS

KEY = "BlockOTA.publish @2 direct"


@pytest.mark.parametrize("gas", [50_000, 100_000, 101_000])
def test_up_to_one_percent_more_is_not_a_regression(gas: int) -> None:
    """An increase of gas by at most 1 %, or a decrease, is accepted."""
    assert list(regressions({KEY: gas}, {KEY: 100_000})) == []


def test_more_than_one_percent_is_a_regression() -> None:
    """An increase of gas by more than 1 % is reported with both figures."""
    (found,) = regressions({KEY: 101_001}, {KEY: 100_000})
    assert found == f"{KEY} uses 101,001 gas, 1.0% more than the snapshot's 100,000."


def test_what_the_snapshot_lacks_is_reported() -> None:
    """A gas figure that is missing in the snapshot is an error."""
    (found,) = regressions({KEY: 1}, {})
    assert found == f"{KEY} is not in the snapshot; run `make gas`."


def test_every_function_of_our_contracts_needs_a_figure() -> None:
    """A contract function without a gas figure is reported; a figure of a special case is sufficient."""
    assert "BlockOTA.publish" in unmeasured([])
    assert "BlockOTA.renounceOwnership" not in unmeasured([])
    found = unmeasured([Cost("BlockOTA", "pairOem, first", 1, "direct", 1)])
    assert "BlockOTA.pairOem" not in found
    assert {name.partition(".")[0] for name in found} == set(CONTRACTS)


def test_a_row_has_one_figure_for_each_release_and_way() -> None:
    """A missing gas figure leaves its table cell empty."""
    assert cells({(1, "direct"): 1000, (1000, "Safe"): 2}) == ["1,000", *[""] * 6, "2"]
    assert cells({(0, "direct"): 1_342_975}) == ["1,342,975", *[""] * 7]


def test_the_table_has_one_part_for_each_contract() -> None:
    """The gas table has one part for each contract; the first row of a part is the deployment."""
    costs = [
        Cost("StringRegistry", "upload", 1, "direct", 3),
        Cost("BlockOTA", "publish", 1, "direct", 2),
        Cost("BlockOTA", "deployment", 0, "direct", 1),
    ]
    lines = [line for line in markdown(costs) if line]
    assert [line.split(" | ")[0] for line in lines[0:4:2]] == ["| `BlockOTA`", "| deployment"]
    assert lines[3].startswith("| publish | 2 |")
    assert lines[4].startswith("| `StringRegistry` (reconstruction: ")


def test_the_document_keeps_all_but_the_table() -> None:
    """Only the text between the two gas marks of the document is replaced."""
    document = "# Gas\n<!-- gas -->\nold\n<!-- /gas -->\nend\n"
    assert inserted(document, "new") == "# Gas\n<!-- gas -->\nnew\n<!-- /gas -->\nend\n"
    with pytest.raises(ValueError, match="lacks"):
        inserted("# Gas\n", "new")
