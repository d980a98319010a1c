"""Tests of pairOem and unpairOem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]
FLASH_START, FLASH_SIZE = 0x0800_0000, 0x1_0000
FIRST = 1 << 48 | 1 << 24


def test_when_a_product_is_paired_it_should_be_recorded_and_emitted(
    empty: ContractInstance, vendor: AccountAPI, product: bytes, oem: bytes
) -> None:
    """Pairing a product stores all its fields in a record, and emits the fields in an event."""
    receipt = empty.pairOem(product, oem, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)
    (event,) = receipt.decode_logs(empty.OemPaired)
    (listed,) = empty.products(0, 10)
    record = empty.productRecord(product)
    names = ("product", "oem", "chipId", "flashStart", "flashSize")
    wanted = [product, oem, 0x0410, FLASH_START, FLASH_SIZE]
    assert [getattr(event, name) for name in names] == [getattr(record, name) for name in names] == wanted
    assert (record.head, record.minimumVersion, record.paired) == (0, 0, True)
    assert listed == record


def test_when_it_is_paired_again_it_should_replace_the_pairing_and_keep_releases_head_and_floor(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """Pairing a product again replaces its fields; releases, newest version and minimum version remain."""
    block_ota.publish([make_release(1)], sender=vendor)
    block_ota.setMinimumVersion(product, FIRST, sender=vendor)
    block_ota.pairOem(product, b"OTHER".ljust(32, b"\0"), 0x0414, 0x0801_0000, 0x8_0000, sender=vendor)
    (record,) = block_ota.products(0, 10)
    assert (record.oem.rstrip(b"\0"), record.chipId) == (b"OTHER", 0x0414)
    assert (record.flashStart, record.flashSize) == (0x0801_0000, 0x8_0000)
    assert (record.head, record.minimumVersion) == (FIRST, FIRST)
    assert block_ota.release(product, FIRST).chipId == 0x0410


def test_when_it_is_unpaired_it_should_emit_and_keep_the_record(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes, oem: bytes
) -> None:
    """Unpairing a product emits an event and keeps its published releases."""
    block_ota.publish([make_release(1)], sender=vendor)
    (event,) = block_ota.unpairOem(product, sender=vendor).decode_logs(block_ota.OemUnpaired)
    record = block_ota.productRecord(product)
    assert (event.product, event.oem) == (product, oem)
    assert (record.paired, record.oem, record.flashSize) == (False, oem, FLASH_SIZE)
    assert block_ota.latest(product).version == FIRST


def test_when_it_is_paired_again_after_unpairing_it_should_go_on_from_its_head(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes, oem: bytes
) -> None:
    """After a product was unpaired and paired again, it is listed once, and old versions are still refused."""
    block_ota.publish([make_release(1)], sender=vendor)
    block_ota.unpairOem(product, sender=vendor)
    block_ota.pairOem(product, oem, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)
    assert len(block_ota.products(0, 10)) == 1
    with ape.reverts(block_ota.VersionNotNewer, product=product, version=FIRST, head=FIRST):
        block_ota.publish([make_release(2, version=FIRST)], sender=vendor)


@pytest.mark.parametrize("times", [1, 0], ids=["twice", "never paired"])
def test_when_what_is_not_paired_is_unpaired_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, product: bytes, oem: bytes, times: int
) -> None:
    """Only a paired product can be unpaired."""
    for _ in range(times):
        empty.pairOem(product, oem, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)
        empty.unpairOem(product, sender=vendor)
    with ape.reverts(empty.ProductNotPaired, product=product):
        empty.unpairOem(product, sender=vendor)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"a", id="one character"),
        pytest.param(b"!" + b"x" * 29 + b"~", id="31 characters, from the first to the last allowed"),
    ],
)
def test_when_the_name_is_of_an_allowed_length_it_should_be_recorded(
    empty: ContractInstance, vendor: AccountAPI, name: bytes
) -> None:
    """Names of products and OEMs may have 1 to 31 printable ASCII characters."""
    key = name.ljust(32, b"\0")
    empty.pairOem(key, key, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)
    assert empty.productRecord(key).oem == key


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x" * 32, id="32 characters"),
        pytest.param(b"acme thermo2", id="a space"),
        pytest.param(b"acme\x7f", id="a control character"),
        pytest.param("acmé".encode(), id="not ASCII"),
        pytest.param(b"\0acme", id="not left-aligned"),
        pytest.param(b"acme\0thermo2", id="a gap"),
        pytest.param(b"acme".ljust(31, b"\0") + b"x", id="a last byte"),
    ],
)
@pytest.mark.parametrize("which", ["product", "oem"])
def test_when_a_name_cannot_be_read_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, product: bytes, name: bytes, which: str
) -> None:
    """Product and OEM names that are not left-aligned printable ASCII without spaces are refused."""
    key = name.ljust(32, b"\0")
    names = (key, product) if which == "product" else (product, key)
    with ape.reverts(empty.NameInvalid, name=key):
        empty.pairOem(*names, 0x0410, FLASH_START, FLASH_SIZE, sender=vendor)


@pytest.mark.parametrize(
    "region",
    [
        pytest.param((FLASH_START, 0), id="empty"),
        pytest.param((0xFFFF_FFFF, 2), id="beyond 32 bits"),
        pytest.param((0xFFFF_FFFF, 0xFFFF_FFFF), id="far beyond"),
    ],
)
def test_when_the_region_is_invalid_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, product: bytes, oem: bytes, region: tuple[int, int]
) -> None:
    """A flash region that is empty, or ends beyond the 32-bit address space, is refused."""
    with ape.reverts(empty.RegionInvalid, flashStart=region[0], flashSize=region[1]):
        empty.pairOem(product, oem, 0x0410, *region, sender=vendor)
