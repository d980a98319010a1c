"""Test that the gateway survives one kill after any step of an update, or one after every step; run by `make deep`."""

from __future__ import annotations

import pytest

from tests.stories.conftest import Workshop, templates, workshop
from tests.stories.test_gateway import site
from tests.stories.test_gateway_process import STEPS, check_killed_after

__all__ = ["site", "templates", "workshop"]


@pytest.mark.parametrize("steps", [*([step] for step in STEPS), STEPS], ids=str)
def test_a_gateway_killed_after_a_step_loses_nothing(site: Workshop, steps: list[str]) -> None:
    """The device's receipt is logged exactly once, at whichever step the gateway is killed."""
    check_killed_after(site, steps)
