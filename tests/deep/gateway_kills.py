"""Test that an update completes although the gateway is killed after one or every step; run by `make deep`."""

from __future__ import annotations

import pytest

from tests.stories.conftest import Workshop, templates, workshop
from tests.stories.test_gateway import site
from tests.stories.test_gateway_process import STEPS, check_killed_after

__all__ = ["site", "templates", "workshop"]


@pytest.mark.parametrize("steps", [*([step] for step in STEPS), STEPS], ids=str)
def test_a_gateway_killed_after_a_step_loses_nothing(site: Workshop, steps: list[str]) -> None:
    """After a kill of the gateway at any step, or at every step, the device's receipt is in the log exactly once."""
    check_killed_after(site, steps)
