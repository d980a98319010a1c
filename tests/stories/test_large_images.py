"""Images larger than a microcontroller's flash are never loaded into memory as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from blockota.approval.proposal import Proposal
from tests.stories.conftest import PRODUCT, Workshop, execute_signed
from tests.stories.large_images import MEBIBYTE, pair, walk, write_image
from tests.stories.large_images import PRODUCT as LARGE_PRODUCT
from tests.stories.test_bad_input import REFUSED, refused


def test_24_mebibytes_go_the_whole_road_in_little_memory(workshop: Workshop) -> None:
    """Publishing, signing, verifying and fetching a 24 MiB image need less than 16 MiB of extra memory.

    `make deep` repeats this test with an image of 1 GiB.
    """
    peaks = walk(workshop, size=24 * MEBIBYTE)
    for name, peak in peaks.items():
        assert peak < 16 * MEBIBYTE, f"{name} took {peak:,} bytes more than without an image"


def test_a_large_image_is_still_refused_for_what_it_is(workshop: Workshop) -> None:
    """A large file that cannot be an image is refused with the specific reason.

    The cases are an archive, HEX, S-record and ELF files above the size limit, and flat images beyond the region or
    the limit.
    """
    words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "large.json")
    for start, size, reason in (
        (b"S00600004844521B\n", 17 * MEBIBYTE, "the limit is 16,777,216"),
        (b"PK\x03\x04", 17 * MEBIBYTE, "a ZIP archive"),
        (b"\x7fELF", 17 * MEBIBYTE, "the limit is 16,777,216"),
        (b":10", 17 * MEBIBYTE, "the limit is 16,777,216"),
        (b"raw", 17 * MEBIBYTE, "65536"),
        (b"raw", 1025 * MEBIBYTE, "the limit is 1,073,741,824"),
    ):
        with Path("large.bin").open("wb") as file:
            file.write(start)
            file.truncate(size)
        refused(workshop.run("release", "publish", "large.bin", *words), REFUSED, reason)
        assert not Path("large.json").exists()


def test_what_no_board_can_take_is_not_even_fetched(workshop: Workshop) -> None:
    """If the recorded size of an image is too large for flashing, the image is refused before any source is queried."""
    pair(workshop)
    write_image(Path("large.bin"), 17 * MEBIBYTE)
    words = ("--product", LARGE_PRODUCT.name, "--version", "1.0.0", "--configuration", "-o", "large.json")
    assert workshop.run("release", "publish", "large.bin", *words).status == 0
    execute_signed(Proposal.from_json(Path("large.json").read_bytes()), workshop.chain, cast=workshop.cast)
    port = ("--product", LARGE_PRODUCT.name, "--port", "socket://127.0.0.1:9")
    for more in (("--store", "file:elsewhere"), ("--image", "large.bin")):
        outcome = workshop.run("flash", *port, *more)
        refused(outcome, REFUSED, "17,825,792 bytes", "16,777,216", "release fetch")
    assert not Path("elsewhere").exists()


def test_a_wrong_large_file_is_named_when_signing(workshop: Workshop) -> None:
    """The error for a wrong image file contains the file's SHA-256, or states that the file is empty or too large."""
    pair(workshop)
    write_image(Path("large.bin"), 17 * MEBIBYTE)
    words = ("--product", LARGE_PRODUCT.name, "--version", "1.0.0", "--configuration", "-o", "large.json")
    assert workshop.run("release", "publish", "large.bin", *words).status == 0
    for size, reason in (
        (17 * MEBIBYTE, "the file has 17,825,792 bytes with SHA-256"),
        (17 * MEBIBYTE - 1, "the file has 17,825,791 bytes with SHA-256"),
        (18 * MEBIBYTE, "the file has 18,874,368 bytes, but the largest expected image has 17,825,792"),
        (0, "the image is empty"),
    ):
        Path("wrong.bin").touch()
        os.truncate("wrong.bin", size)
        outcome = workshop.run("proposal", "sign", "large.json", "--key", "dev:1", "--yes", "--image", "wrong.bin")
        refused(outcome, REFUSED, "wrong.bin", reason)
