"""Tests with foreign programs, run by ``make peers``, which requires the programs listed in `scripts.peers`."""

from __future__ import annotations

from tests.stories.conftest import templates, workshop

__all__ = ["templates", "workshop"]
