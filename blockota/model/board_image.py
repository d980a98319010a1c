"""Decides whether an image that was made for a single board may be written beside the program of a release. Pure.

An image for a single board is not published as a release. A command of the bench creates the image. The chain does not
record the image's hash, so checks 1 to 4 of `verification` do not apply. The chain determines only where the image is
written: a paired product has a region and a chip id. The following checks apply, with their numbers in `verification`:

5.  (a) The region does not overlap the program, and (b) the image is not empty and fits into the region.
7.  (a) The product is for the chip of the program. (b) The product's region is inside the flash. (c) The region is not
    at the start of the flash, where the chip reads its vector table.
8.  (a) Readout protection is off, and (b) write protection is off in the region.
10. The flash in the range of the image has the SHA-256 of the image. If this run wrote the image, the rest of the
    region must also be erased. Otherwise, an earlier key could remain in the region.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from blockota.errors import Action, FlashProofError, VerificationError
from blockota.model.facts import BoardAnswer, Passed, proof_words
from blockota.model.release import Product, Region, Release
from blockota.model.verification import check_protection

CHECKS = "5, 7, 8 and 10; checks 1 to 4 do not apply, because no release is published for a single board"
"""The checks that an image for one board must pass, for the log and the screen."""


@dataclass(frozen=True)
class BoardImage:
    """An image made for one board.

    The `repr` and the errors of this class contain no bytes of the image, because the bytes may be keys.

    Attributes:
        product: the paired product; the image is written at the start of its region.
        sha256: SHA-256 of the image, 32 bytes.
        size: size of the image in bytes.
        region_sha256: SHA-256 of the whole region: the image, then erased bytes; empty if an earlier run wrote the
            image.
    """

    product: Product
    sha256: bytes
    size: int
    region_sha256: bytes = b""

    @classmethod
    def of(cls, product: Product, data: bytes, *, erased_byte: int = 0xFF) -> BoardImage:
        """Create the description of an image that will be written."""
        region = padded(product, data, erased_byte=erased_byte)
        return cls(product, hashlib.sha256(data).digest(), len(data), hashlib.sha256(region).digest())

    @property
    def region(self) -> Region:
        """The range of flash addresses of the image."""
        return Region(self.product.region.start, self.size)


def padded(product: Product, data: bytes, *, erased_byte: int) -> bytes:
    """Return the contents that the whole region must have: the image, followed by erased bytes."""
    return data.ljust(product.region.size, bytes((erased_byte,)))


def require_place(product: Product, program: Release) -> None:
    """Run checks 5a and 7a, which do not need the board.

    Args:
        product: the paired product of the board's own image.
        program: the release that is written in the same run.

    Raises:
        VerificationError: a check failed.
    """
    # (5a) The whole region counts, because the size of the image is not known before it is made.
    if product.region.overlaps(program.region):
        raise VerificationError(
            5,
            "the board's own image would overlap the program",
            why=f"the region of {product.name} is {product.region}, and {program.product} {program.version} occupies "
            f"{program.region}",
            remedy="ask the vendor to pair the product with a region that begins after the program",
            action=Action.LIST_PRODUCTS,
        )
    # (7a)
    if product.chip_id != program.chip_id:
        raise VerificationError(
            7,
            "the board's own image is for another chip",
            why=f"{product.name} is paired with chip 0x{product.chip_id:03x}, and {program.product} {program.version} "
            f"is for chip 0x{program.chip_id:03x}",
            remedy="give the product that is paired for this chip",
            action=Action.LIST_PRODUCTS,
        )


def prove_place(product: Product, board: BoardAnswer) -> list[Passed]:
    """Run checks 7b, 7c and 8 on the data read from the board, before the image is created.

    Raises:
        VerificationError: a check failed; nothing was changed.
    """
    region = product.region
    # (7b)
    if not board.flash.contains(region):
        raise VerificationError(
            7,
            "the region of the board's own image is not inside the flash",
            why=f"{product.name} has the region {region}, but the flash is {board.flash}",
            remedy="use a board with a larger flash, or ask the vendor whether the product is paired correctly",
        )
    # (7c)
    if region.start == board.flash.start:
        raise VerificationError(
            7,
            "the board's own image would replace the vector table",
            why=f"{product.name} has the region {region}, and the chip reads its vector table at the start of the "
            "flash",
            remedy="ask the vendor to pair the product with another region",
        )
    # (8) The same check as for a release.
    off = check_protection(region, board).what
    return [
        Passed(7, f"the region of {product.name}, {region}, is inside the flash"),
        Passed(8, f"{off} in the region of {product.name}"),
    ]


def prove_fit(image: BoardImage) -> Passed:
    """Run check 5b.

    Raises:
        VerificationError: the image is empty, or larger than the region; nothing was changed.
    """
    product = image.product
    remedy = "correct the command that makes the image"
    if not image.size:
        raise VerificationError(
            5, "the board's own image is empty", why="the command wrote nothing to its output", remedy=remedy
        )

    if image.size > product.region.size:
        raise VerificationError(
            5,
            "the board's own image does not fit into the product's region",
            why=f"the command wrote more than {product.region.size:,} bytes, but the region of {product.name} is "
            f"{product.region}",
            remedy=remedy,
        )

    return Passed(5, f"the board's own image, {image.region}, lies inside the region of {product.name}")


def prove_written(image: BoardImage, digest: bytes, *, method: str) -> Passed:
    """Run check 10.

    Args:
        image: the image that the command created.
        digest: SHA-256 of the flash in the whole region. If an earlier run wrote the image, the digest covers only the
            range of the image.
        method: name of the method by which the digest was computed.

    Raises:
        FlashProofError: the digests differ.
    """
    expected = image.region_sha256 or image.sha256
    if digest != expected:
        raise FlashProofError(
            "check 10 failed: the flash does not contain the board's own image",
            why=f"the region has SHA-256 {digest.hex()}, and {expected.hex()} is expected",
            remedy="flash the board again; if the check fails again, replace the board",
        )
    rest = ", and erased bytes after it" if image.region_sha256 and image.size < image.product.region.size else ""
    return Passed(
        10, f"the flash holds the board's own image, SHA-256 {image.sha256.hex()}{rest} ({proof_words(method)})"
    )
