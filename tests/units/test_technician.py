"""The technician's module: what a board holds."""

from __future__ import annotations

import hashlib

import pytest

from blockota.bindings import publish_call, revoke_call
from blockota.release import Product, Region, Release, Version
from blockota.technician import installed_version
from tests.units.conftest import Vendor
from tests.units.samples import FLASH, code, release_of


def published(vendor: Vendor, product: Product) -> list[Release]:
    """Three releases of different sizes."""
    images = [code(64), code(65), code(66)]
    releases = [
        release_of(image, product=product.name, version=Version(1, number, 0)) for number, image in enumerate(images)
    ]
    vendor.decide(publish_call(releases))
    return releases


def digest_of(flash: bytes, region: Region) -> bytes:
    """What a board answers when asked for the digest of a region of its flash."""
    start = region.start - FLASH.start
    return hashlib.sha256(flash[start : start + region.size]).digest()


@pytest.mark.parametrize(
    ("image", "version"),
    [(code(64), Version(1, 0, 0)), (code(66), Version(1, 2, 0)), (b"\xff" * 64, None), (code(63), None)],
)
def test_the_installed_version_is_known_from_the_flash(
    vendor: Vendor, product: Product, image: bytes, version: Version | None
) -> None:
    """The flash itself says which release it holds, behind it blank bytes; anything else is none."""
    published(vendor, product)
    flash = image.ljust(FLASH.size, b"\xff")
    block = vendor.chain.head().number
    found = installed_version(
        vendor.contract, product.name, digest=lambda region: digest_of(flash, region), block=block
    )
    assert found == version


def test_the_greatest_of_several_that_fit_counts(vendor: Vendor, product: Product) -> None:
    """Where one image begins with another, the board holds the newer one, revoked or not."""
    releases = published(vendor, product)
    flash = code(66)
    vendor.decide(revoke_call(product.name, releases[2].version, reason=""))
    block = vendor.chain.head().number
    found = installed_version(
        vendor.contract, product.name, digest=lambda region: digest_of(flash, region), block=block
    )
    assert found == Version(1, 2, 0)


def test_only_what_the_block_knows_counts(vendor: Vendor, product: Product) -> None:
    """A release published after the block that counts is unknown there."""
    block = vendor.chain.head().number
    published(vendor, product)
    found = installed_version(
        vendor.contract, product.name, digest=lambda region: digest_of(code(), region), block=block
    )
    assert found is None
