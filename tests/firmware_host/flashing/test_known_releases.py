"""The installed release is detected from the releases recorded on the chain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from blockota.bindings.block_ota import known_releases, pair_call, publish_call, revoke_call
from blockota.model.release import Product, Release, Version
from firmware_host.flashing.installed import held_release
from tests.conftest import Vendor
from tests.support.samples import FLASH, code, release_of


def published(vendor: Vendor, product: Product) -> list[Release]:
    """Publish three releases with images of different sizes, and return them."""
    images = [code(64), code(65), code(66)]
    releases = [
        release_of(image, product=product.name, version=Version(1, number, 0)) for number, image in enumerate(images)
    ]
    vendor.decide(publish_call(releases))
    return releases


def digests_of(flash: bytes) -> Callable[[int, Sequence[int]], list[bytes]]:
    """Return a function that computes digests of the given flash contents, as a board does."""

    def digests(address: int, lengths: Sequence[int]) -> list[bytes]:
        start = address - FLASH.start
        return [hashlib.sha256(flash[start : start + length]).digest() for length in lengths]

    return digests


def held(vendor: Vendor, product: Product, *, flash: bytes, block: int) -> Version | None:
    """Return the version that is detected in a flash from the releases recorded on the chain at a block."""
    known = known_releases(vendor.contract, product.name, block=block)
    found = held_release(known.own, sha256=digests_of(flash))
    return found.version if found else None


@pytest.mark.parametrize(
    ("image", "version"),
    [(code(64), Version(1, 0, 0)), (code(66), Version(1, 2, 0)), (b"\xff" * 64, None), (code(63), None)],
)
def test_the_installed_version_is_known_from_the_flash(
    vendor: Vendor, product: Product, image: bytes, version: Version | None
) -> None:
    """A release is detected by the digest of its image; other contents match no release."""
    published(vendor, product)
    flash = image.ljust(FLASH.size, b"\xff")
    block = vendor.chain.head().number
    found = held(vendor, product, flash=flash, block=block)
    assert found == version


def test_the_greatest_of_several_that_fit_counts(vendor: Vendor, product: Product) -> None:
    """If several releases match the flash, the newest is detected, even if it was revoked."""
    releases = published(vendor, product)
    flash = code(66)
    vendor.decide(revoke_call(product.name, releases[2].version, reason=""))
    block = vendor.chain.head().number
    found = held(vendor, product, flash=flash, block=block)
    assert found == Version(1, 2, 0)


def test_only_what_the_block_knows_counts(vendor: Vendor, product: Product) -> None:
    """A release that was published after the given block is not detected."""
    block = vendor.chain.head().number
    published(vendor, product)
    found = held(vendor, product, flash=code(), block=block)
    assert found is None


def test_releases_of_other_products_are_known_and_asked_for_when_they_are_needed(
    vendor: Vendor, product: Product
) -> None:
    """Releases of other products are looked up separately from the product's own releases."""
    published(vendor, product)
    other = replace(product, name=f"{product.name[:20]}-lamp")
    lamp = release_of(code(80), product=other.name, version=Version(7, 0, 0))
    vendor.decide(pair_call(other))
    vendor.decide(publish_call([lamp]))
    known = known_releases(vendor.contract, product.name, block=vendor.chain.head().number)
    assert {release.product for release in known.own} == {product.name}
    found = held_release(known.others(), sha256=digests_of(code(80)))
    assert found is not None
    assert (found.product, found.version) == (other.name, Version(7, 0, 0))


def test_each_address_and_length_is_asked_for_once() -> None:
    """The digests of all lengths at one address are requested together."""
    asked: list[tuple[int, list[int]]] = []

    def digests(address: int, lengths: Sequence[int]) -> list[bytes]:
        asked.append((address, list(lengths)))
        return [bytes(32)] * len(lengths)

    images = [release_of(code(size), load_address=at) for at in (FLASH.start, FLASH.start + 1024) for size in (66, 64)]
    assert held_release([*images, *images], sha256=digests) is None
    assert asked == [(FLASH.start, [64, 66]), (FLASH.start + 1024, [64, 66])]
