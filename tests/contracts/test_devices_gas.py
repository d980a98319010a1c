"""Upper limits for the gas of registering and banning a device, as `make gas` measured it.

`make check` measures again, and compares with the snapshot.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SNAPSHOT = Path(__file__).resolve().parents[2] / "benchmarks/gas-snapshot.json"
LIMITS = {"register": 240_000, "register, with a key": 290_000, "ban, by the owner": 35_000}


@pytest.mark.parametrize("function", LIMITS)
def test_a_call_should_cost_at_most_its_limit(function: str) -> None:
    """The call costs at most its limit at any number of devices before it."""
    figures = json.loads(SNAPSHOT.read_text())
    gas = [figures[f"DeviceRegistry.{function} @{number} direct"] for number in (1, 2, 100, 1000)]
    assert max(gas) <= LIMITS[function]
