"""The largest image goes the whole road; `make deep` runs this file."""

from __future__ import annotations

from tests.stories.conftest import Workshop, workshop
from tests.stories.large_images import MEBIBYTE, walk

__all__ = ["workshop"]


def test_a_gibibyte_goes_the_whole_road_in_64_mebibytes(workshop: Workshop) -> None:
    """Publishing, verifying and fetching take at most 64 MiB above what an idle command takes."""
    for name, peak in walk(workshop, size=1024 * MEBIBYTE).items():
        assert peak <= 64 * MEBIBYTE, f"{name} took {peak:,} bytes more than an idle command"
