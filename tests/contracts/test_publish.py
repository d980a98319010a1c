"""Tests of publish for a paired product."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]
MIB = 1 << 20
FLASH_START, FLASH_SIZE = 0x0800_0000, 0x1_0000
FIRST = 1 << 48 | 1 << 24
ACTIVE = 1


@pytest.fixture
def with_release(block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease) -> ContractInstance:
    """BlockOTA with release 1 published."""
    block_ota.publish([make_release(1)], sender=vendor)
    return block_ota


def test_when_the_release_is_the_first_it_should_be_recorded_and_emitted(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> None:
    """Publishing stores and emits all fields of a release; the manifest's hash is only emitted."""
    wanted = make_release(1)
    receipt = block_ota.publish([wanted], sender=vendor)
    (event,) = receipt.decode_logs(block_ota.ReleasePublished)
    record = block_ota.release(wanted["product"], wanted["version"])
    assert record.activeFrom == receipt.timestamp == event.activeFrom
    for name in ("product", "version", "sha256", "size", "loadAddress", "dagRoot"):
        assert getattr(record, name) == getattr(event, name) == wanted[name]
    assert event.manifest == wanted["manifest"]
    assert (record.previous, record.chipId, record.status) == (0, 0x0410, ACTIVE)


def test_when_the_release_is_a_later_one_it_should_become_the_head_and_link_to_the_one_before(
    with_release: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> None:
    """A published version becomes the head of the history; its field `previous` contains the former head."""
    wanted = make_release(5)
    with_release.publish([wanted], sender=vendor)
    assert with_release.productRecord(wanted["product"]).head == wanted["version"]
    assert with_release.release(wanted["product"], wanted["version"]).previous == FIRST
    assert with_release.release(wanted["product"], FIRST).sha256 == make_release(1)["sha256"]


def test_when_several_are_published_it_should_record_and_emit_them_in_order(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> None:
    """Releases published in one transaction are recorded in order, each linked to the release before it."""
    wanted = [make_release(number) for number in (1, 2, 3)]
    receipt = block_ota.publish(wanted, sender=vendor)
    events = receipt.decode_logs(block_ota.ReleasePublished)
    records = [block_ota.find(release["product"], release["sha256"]) for release in wanted]
    versions = [release["version"] for release in wanted]
    assert [event.version for event in events] == [record.version for record in records] == versions
    assert [record.previous for record in records] == [0, *versions[:-1]]


def test_when_one_of_several_is_refused_it_should_record_none(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """If one release of a batch is invalid, no release of the batch is recorded."""
    with ape.reverts(block_ota.ImageEmpty, product=product, version=make_release(2)["version"]):
        block_ota.publish([make_release(1), make_release(2, size=0)], sender=vendor)
    assert block_ota.productRecord(product).head == 0
    assert block_ota.find(product, make_release(1)["sha256"]).version == 0


def test_when_the_image_belongs_to_another_product_too_it_should_be_recorded_for_both(
    with_release: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, oem: bytes
) -> None:
    """The same image may be published for two products."""
    other = b"acme-thermo3".ljust(32, b"\0")
    with_release.pairOem(other, oem, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)
    with_release.publish([make_release(1, product=other)], sender=vendor)
    assert with_release.release(other, FIRST).sha256 == make_release(1)["sha256"]


def test_when_the_time_is_ahead_it_should_be_kept(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """A scheduled release is the latest as soon as it is published, but is not authentic before `activeFrom`."""
    ahead = ape.chain.pending_timestamp + 3600
    wanted = make_release(1, activeFrom=ahead)
    block_ota.publish([wanted], sender=vendor)
    assert block_ota.latest(product).activeFrom == ahead
    assert not block_ota.isAuthentic(product, wanted["version"], wanted["sha256"])
    ape.chain.mine(timestamp=ahead)
    assert block_ota.isAuthentic(product, wanted["version"], wanted["sha256"])


def test_when_the_time_is_past_it_should_become_the_block_time(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """If `activeFrom` is in the past, the block's time is recorded instead."""
    receipt = block_ota.publish([make_release(1, activeFrom=1_600_000_000)], sender=vendor)
    assert block_ota.latest(product).activeFrom == receipt.timestamp


@pytest.mark.parametrize(
    ("load_address", "size"),
    [
        pytest.param(FLASH_START, FLASH_SIZE, id="all of it"),
        pytest.param(FLASH_START + FLASH_SIZE - 1, 1, id="its last byte"),
    ],
)
def test_when_the_image_just_fits_the_region_it_should_be_recorded(
    block_ota: ContractInstance,
    vendor: AccountAPI,
    make_release: MakeRelease,
    load_address: int,
    size: int,
) -> None:
    """An image may fill the product's whole region, or occupy only the last byte of the region."""
    wanted = make_release(1, loadAddress=load_address, size=size)
    block_ota.publish([wanted], sender=vendor)
    record = block_ota.latest(wanted["product"])
    assert (record.loadAddress, record.size) == (load_address, size)


def test_when_the_region_ends_with_the_address_space_it_should_take_the_last_byte(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes, oem: bytes
) -> None:
    """An image may end at the last byte of the 32-bit address space."""
    block_ota.pairOem(product, oem, 0x0410, 0xFFFF_0000, 0x1_0000, sender=vendor)
    block_ota.publish([make_release(1, loadAddress=0xFFFF_0000, size=0x1_0000)], sender=vendor)
    assert block_ota.latest(product).size == 0x1_0000


@pytest.mark.parametrize(
    ("size", "dag_root"),
    [
        pytest.param(MIB, bytes(32), id="one block"),
        pytest.param(MIB + 1, hashlib.sha256(b"root").digest(), id="several blocks"),
    ],
)
def test_when_the_image_is_large_it_should_be_recorded_with_the_dag_root_it_needs(
    large_region: ContractInstance,
    vendor: AccountAPI,
    make_release: MakeRelease,
    size: int,
    dag_root: bytes,
) -> None:
    """An image of up to 1 MiB is published without a DAG root, a larger image with a DAG root."""
    wanted = make_release(1, size=size, dagRoot=dag_root)
    (event,) = large_region.publish([wanted], sender=vendor).decode_logs(large_region.ReleasePublished)
    assert large_region.latest(wanted["product"]).dagRoot == event.dagRoot == dag_root


@pytest.mark.parametrize(
    ("size", "dag_root"),
    [
        pytest.param(MIB, hashlib.sha256(b"root").digest(), id="one block with a root"),
        pytest.param(MIB + 1, bytes(32), id="several blocks without"),
    ],
)
def test_when_size_and_dag_root_disagree_it_should_refuse(
    large_region: ContractInstance,
    vendor: AccountAPI,
    make_release: MakeRelease,
    size: int,
    dag_root: bytes,
) -> None:
    """A DAG root for an image of up to 1 MiB, or a larger image without a DAG root, is refused."""
    wanted = make_release(1, size=size, dagRoot=dag_root)
    facts = {name: wanted[name] for name in ("product", "version", "size", "dagRoot")}
    with ape.reverts(large_region.DagRootMismatch, **facts):
        large_region.publish([wanted], sender=vendor)


def test_when_nothing_is_given_it_should_refuse(block_ota: ContractInstance, vendor: AccountAPI) -> None:
    """Publishing an empty list of releases reverts."""
    with ape.reverts(block_ota.NothingToPublish):
        block_ota.publish([], sender=vendor)


def test_when_the_product_was_never_paired_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """A release of a product that was never paired is refused."""
    with ape.reverts(empty.ProductNotPaired, product=product):
        empty.publish([make_release(1)], sender=vendor)


def test_when_the_product_was_unpaired_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """A release of an unpaired product is refused."""
    block_ota.unpairOem(product, sender=vendor)
    with ape.reverts(block_ota.ProductNotPaired, product=product):
        block_ota.publish([make_release(1)], sender=vendor)


@pytest.mark.parametrize("version", [0, FIRST - 1, FIRST], ids=["zero", "older", "the same"])
def test_when_the_version_is_not_newer_it_should_refuse(
    with_release: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes, version: int
) -> None:
    """A version that is not greater than the newest published version is refused."""
    with ape.reverts(with_release.VersionNotNewer, product=product, version=version, head=FIRST):
        with_release.publish([make_release(2, version=version)], sender=vendor)


def test_when_the_first_version_is_zero_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """Version 0 is refused, because the getters return it if no release exists."""
    with ape.reverts(block_ota.VersionNotNewer, product=product, version=0, head=0):
        block_ota.publish([make_release(1, version=0)], sender=vendor)


def test_when_the_version_is_below_the_floor_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """A version below the minimum version is refused; the minimum version itself can be published."""
    block_ota.setMinimumVersion(product, FIRST, sender=vendor)
    below = {"product": product, "version": FIRST - 1, "minimumVersion": FIRST}
    with ape.reverts(block_ota.VersionBelowMinimum, **below):
        block_ota.publish([make_release(1, version=FIRST - 1)], sender=vendor)
    block_ota.publish([make_release(1)], sender=vendor)
    assert block_ota.latest(product).version == FIRST


def test_when_the_digest_is_missing_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """A release without the SHA-256 of its image is refused."""
    with ape.reverts(block_ota.DigestMissing, product=product, version=FIRST):
        block_ota.publish([make_release(1, sha256=bytes(32))], sender=vendor)


@pytest.mark.parametrize("revoked", [False, True], ids=["active", "revoked"])
def test_when_the_image_is_recorded_already_it_should_name_the_version_that_has_it(
    with_release: ContractInstance,
    vendor: AccountAPI,
    make_release: MakeRelease,
    product: bytes,
    *,
    revoked: bool,
) -> None:
    """An image is refused under another version if it was published before, even if that release is revoked."""
    if revoked:
        with_release.revoke(product, FIRST, "bricks boards", sender=vendor)
    image = make_release(1)["sha256"]
    with ape.reverts(with_release.ImageAlreadyPublished, product=product, sha256=image, version=FIRST):
        with_release.publish([make_release(2, sha256=image)], sender=vendor)


def test_when_the_image_is_empty_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """An image of 0 bytes is refused."""
    with ape.reverts(block_ota.ImageEmpty, product=product, version=FIRST):
        block_ota.publish([make_release(1, size=0)], sender=vendor)


@pytest.mark.parametrize(
    ("load_address", "size"),
    [
        pytest.param(FLASH_START - 1, 16, id="begins before"),
        pytest.param(FLASH_START, FLASH_SIZE + 1, id="ends behind"),
        pytest.param(FLASH_START + FLASH_SIZE, 1, id="lies behind"),
        pytest.param(0xFFFF_FFFF, 0xFFFF_FFFF, id="wraps around"),
    ],
)
def test_when_the_image_leaves_the_region_it_should_refuse(
    block_ota: ContractInstance,
    vendor: AccountAPI,
    make_release: MakeRelease,
    load_address: int,
    size: int,
) -> None:
    """An image that begins or ends outside the product's region is refused, even if its end overflows 32 bits."""
    wanted = make_release(1, loadAddress=load_address, size=size)
    facts = {name: wanted[name] for name in ("product", "loadAddress", "size")}
    with ape.reverts(block_ota.ImageOutsideRegion, **facts, flashStart=FLASH_START, flashSize=FLASH_SIZE):
        block_ota.publish([wanted], sender=vendor)


@pytest.fixture
def large_region(block_ota: ContractInstance, vendor: AccountAPI, product: bytes, oem: bytes) -> ContractInstance:
    """BlockOTA with a product whose flash region has 2 MiB."""
    block_ota.pairOem(product, oem, 0x0419, FLASH_START, 2 * MIB, sender=vendor)
    return block_ota
