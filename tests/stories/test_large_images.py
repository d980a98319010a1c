"""Images that are no flash of a microcontroller: nothing holds them in memory."""

from __future__ import annotations

from pathlib import Path

from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.large_images import MEBIBYTE, walk
from tests.stories.test_bad_input import REFUSED, refused


def test_64_mebibytes_go_the_whole_road_in_little_memory(workshop: Workshop) -> None:
    """Publishing, verifying and fetching take less than half of the image's size above what an idle command takes."""
    peaks = walk(workshop, size=64 * MEBIBYTE)
    for name, peak in peaks.items():
        assert peak < 32 * MEBIBYTE, f"{name} took {peak:,} bytes more than an idle command"


def test_a_large_image_is_still_refused_for_what_it_is(workshop: Workshop) -> None:
    """Beyond the size that is read whole, a foreign file, one for another place and one that is too large are told."""
    words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "large.json")
    for start, size, told in (
        (b"S00600004844521B\n", 17 * MEBIBYTE, "Motorola S-record"),
        (b"\x7fELF", 17 * MEBIBYTE, "the limit is 16,777,216"),
        (b":10", 17 * MEBIBYTE, "the limit is 16,777,216"),
        (b"raw", 17 * MEBIBYTE, "65536"),
        (b"raw", 1025 * MEBIBYTE, "the limit is 1,073,741,824"),
    ):
        with Path("large.bin").open("wb") as file:
            file.write(start)
            file.truncate(size)
        refused(workshop.run("release", "publish", "large.bin", *words), REFUSED, told)
        assert not Path("large.json").exists()
