"""Tests with foreign programs, run by ``make peers``; `scripts.peers` lists the programs. No test is skipped."""

from __future__ import annotations

from tests.stories.conftest import templates, workshop

__all__ = ["templates", "workshop"]
