"""The technician's module: images from a store that is not believed, and what a board holds."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from blockota.bindings import publish_call, revoke_call
from blockota.cid import CHUNK_SIZE, cid_of
from blockota.errors import StoreError, VerificationError
from blockota.release import Product, Region, Release, Version
from blockota.stores.local import LocalStore
from blockota.technician import installed_version, read_image
from tests.units.conftest import Vendor
from tests.units.samples import FLASH, code, release_of

LARGE = bytes(CHUNK_SIZE) + b"more"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path)


def large_release(image: bytes = LARGE, *, size: int = len(LARGE)) -> Release:
    """The record of an image of several blocks."""
    return release_of(image, dag_root=cid_of(io.BytesIO(image)).digest, size=size)


@pytest.mark.parametrize("image", [code(), LARGE], ids=["one block", "two blocks"])
def test_an_image_is_read(store: LocalStore, image: bytes) -> None:
    """What the vendor put is what the technician reads."""
    store.put(io.BytesIO(image))
    release = large_release() if image == LARGE else release_of(image)
    assert read_image(release, store) == image


def test_an_image_that_is_not_there_is_the_store_s_failure(store: LocalStore) -> None:
    """It is out of reach, not refused."""
    with pytest.raises(StoreError, match="does not hold"):
        read_image(release_of(code()), store)


def test_a_corrupt_image_fails_check_four(store: LocalStore) -> None:
    """A block that was changed is check 4, with the block's address and where else to take the image from."""
    cid = store.put(io.BytesIO(code()))
    (store.folder / "blocks" / str(cid)[-3:-1] / str(cid)).write_bytes(b"tampered")
    with pytest.raises(VerificationError, match=rf"not the release: .*{cid} is corrupt.*--store.*--image") as failed:
        read_image(release_of(code()), store)
    assert failed.value.number == 4


def test_more_bytes_than_the_record_says_fail_check_four(store: LocalStore) -> None:
    """Reading stops as soon as there is more than the chain's record says."""
    store.put(io.BytesIO(LARGE))
    with pytest.raises(VerificationError, match=f"more than the {CHUNK_SIZE} bytes expected") as failed:
        read_image(large_release(size=CHUNK_SIZE), store)
    assert failed.value.number == 4


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
