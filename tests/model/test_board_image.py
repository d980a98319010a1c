"""The checks of an image that was made for one board."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from blockota.errors import FlashProofError, VerificationError
from blockota.model.board_image import BoardImage, prove_fit, prove_place, prove_written, require_place
from blockota.model.release import Product, Region
from tests.support.samples import BOARD, FLASH, OTHER_CHIP_ID, PRODUCT, code, release_of

REGION = Region(FLASH.end - 0x400, 0x400)
KEYS = replace(PRODUCT, name="acme-keys", region=REGION)
PROGRAM = release_of(code())


def product(start: int, size: int) -> Product:
    """Return the product with another flash region."""
    return replace(KEYS, region=Region(start, size))


def test_an_image_beside_the_program_passes() -> None:
    """An image that fits into a flash region beside the program passes checks 5, 7, 8 and 10."""
    require_place(KEYS, PROGRAM)
    image = BoardImage.of(KEYS, b"key" * 5)
    region = hashlib.sha256(b"key" * 5 + b"\xff" * (KEYS.region.size - 15)).digest()
    passed = [*prove_place(KEYS, BOARD), prove_fit(image), prove_written(image, region, method="read-back")]
    assert [check.number for check in passed] == [7, 8, 5, 10]
    assert str(Region(REGION.start, 15)) in passed[2].what
    assert f"SHA-256 {image.sha256.hex()}, and erased bytes after it" in passed[3].what


def test_a_kept_image_is_compared_in_its_own_range() -> None:
    """If an earlier run wrote the image, check 10 compares and reports only the image's range."""
    kept = BoardImage(KEYS, hashlib.sha256(b"key").digest(), 3)
    assert "erased" not in prove_written(kept, kept.sha256, method="stub").what


def test_old_bytes_behind_the_image_fail_check_10() -> None:
    """Check 10 fails if the flash region contains other bytes after the image."""
    image = BoardImage.of(KEYS, b"key")
    region = hashlib.sha256(b"key".ljust(KEYS.region.size, b"3")).digest()
    with pytest.raises(FlashProofError, match="check 10 failed"):
        prove_written(image, region, method="read-back")


def test_a_neighbouring_region_does_not_overlap() -> None:
    """A flash region may begin at the byte after the program."""
    require_place(product(PROGRAM.region.end, 16), PROGRAM)


CASES: dict[str, tuple[int, str, Callable[[], object]]] = {
    "overlap": (5, "would overlap the program", lambda: require_place(product(PROGRAM.region.end - 1, 16), PROGRAM)),
    "around": (5, "would overlap the program", lambda: require_place(replace(KEYS, region=FLASH), PROGRAM)),
    "other chip": (7, "is for another chip", lambda: require_place(replace(KEYS, chip_id=OTHER_CHIP_ID), PROGRAM)),
    "outside": (7, "not inside the flash", lambda: prove_place(product(FLASH.end - 8, 16), BOARD)),
    "vector table": (7, "replace the vector table", lambda: prove_place(product(FLASH.start, 16), BOARD)),
    "readout": (8, "readout protected", lambda: prove_place(KEYS, replace(BOARD, readout_protected=True))),
    "write": (
        8,
        "write protected",
        lambda: prove_place(KEYS, replace(BOARD, write_protected=(Region(REGION.end - 1, 1),))),
    ),
    "empty": (5, "is empty", lambda: prove_fit(BoardImage.of(KEYS, b""))),
    "too large": (
        5,
        "does not fit into the product's region",
        lambda: prove_fit(BoardImage.of(KEYS, bytes(REGION.size + 1))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_image_without_a_place_is_refused(name: str) -> None:
    """A failed check is reported with its number and its reason."""
    number, says, check = CASES[name]
    with pytest.raises(VerificationError, match=f"check {number} failed, .*{says}"):
        check()


def test_protected_pages_elsewhere_do_not_matter() -> None:
    """All checks pass if only pages outside the flash region are write-protected."""
    board = replace(BOARD, write_protected=(Region(FLASH.start, REGION.start - FLASH.start),))
    assert "write protection are off" in prove_place(KEYS, board)[1].what


def test_an_unreported_write_protection_is_named() -> None:
    """The result of check 8 states if the chip does not report its write protection."""
    assert "does not report" in prove_place(KEYS, replace(BOARD, write_protected=None))[1].what


def test_another_digest_fails_check_10() -> None:
    """Check 10 fails if the digest of the flash differs from the digest of the image."""
    with pytest.raises(FlashProofError, match="check 10 failed"):
        prove_written(BoardImage.of(KEYS, b"key"), bytes(32), method="read-back")
