"""Tests of BlockOTA's getters with five releases, of which releases 2 and 5 are revoked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]
UNKNOWN = b"unknown-product".ljust(32, b"\0")
HUGE = (1 << 256) - 1


def version(number: int) -> int:
    """Return version 1.number.0 as one packed number."""
    return 1 << 48 | number << 24


@pytest.fixture
def published(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> ContractInstance:
    """BlockOTA with releases 1 to 5, of which releases 2 and 5 are revoked."""
    block_ota.publish([make_release(number) for number in range(1, 6)], sender=vendor)
    for number in (2, 5):
        block_ota.revoke(product, version(number), "bricks boards", sender=vendor)
    return block_ota


def test_latest_should_be_the_greatest_that_is_not_revoked(
    published: ContractInstance, technician: TestAccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """`latest` skips the revoked release 5 and returns release 4."""
    record = published.latest(product, sender=technician)
    assert (record.version, record.sha256) == (version(4), make_release(4)["sha256"])


def test_release_and_find_should_give_the_same_record(
    published: ContractInstance, make_release: MakeRelease, product: bytes
) -> None:
    """`release` and `find` return the same record for a version and for the SHA-256 of its image."""
    by_version = published.release(product, version(2))
    assert by_version == published.find(product, make_release(2)["sha256"])
    assert by_version.product == product


@pytest.mark.parametrize(
    ("start", "count", "numbers"),
    [
        pytest.param(0, 10, [5, 4, 3, 2, 1], id="all"),
        pytest.param(0, 2, [5, 4], id="the first page"),
        pytest.param(version(3), 2, [3, 2], id="the next page"),
        pytest.param(version(1), HUGE, [1], id="the last page"),
        pytest.param(0, 0, [], id="nothing"),
        pytest.param(version(9), 3, [], id="from a version that is not there"),
    ],
)
def test_history_should_give_pages_newest_first(
    published: ContractInstance, product: bytes, start: int, count: int, numbers: list[int]
) -> None:
    """`history` returns pages of releases, newest first, including revoked releases."""
    records = published.call_view_method("history", product, start, count)
    assert [record.version for record in records] == [version(number) for number in numbers]
    assert [record.status for record in records] == [2 if number in (2, 5) else 1 for number in numbers]


@pytest.mark.parametrize(
    ("pair", "wanted"),
    [
        pytest.param((4, 4), True, id="the latest"),
        pytest.param((1, 1), True, id="an old one"),
        pytest.param((5, 5), False, id="a revoked one"),
        pytest.param((4, 3), False, id="the image of another"),
        pytest.param((9, 4), False, id="an unknown version"),
        pytest.param((4, 9), False, id="an unknown image"),
    ],
)
def test_is_authentic_should_want_version_and_image_to_belong_together_and_be_active(
    published: ContractInstance,
    make_release: MakeRelease,
    product: bytes,
    pair: tuple[int, int],
    *,
    wanted: bool,
) -> None:
    """`isAuthentic` is true only if the version is an active release and the SHA-256 is that of its image."""
    asked, image = pair
    assert published.isAuthentic(product, version(asked), make_release(image)["sha256"]) is wanted


def test_is_authentic_should_be_false_for_zeros(published: ContractInstance, product: bytes) -> None:
    """`isAuthentic` is false for version 0 and a SHA-256 of zeros, the values of an empty record."""
    assert not published.isAuthentic(product, 0, bytes(32))


def test_what_is_unknown_should_be_an_empty_record(
    published: ContractInstance, technician: TestAccountAPI, product: bytes
) -> None:
    """For unknown products, versions and images, the getters return empty records instead of reverting."""
    for record in (
        published.latest(UNKNOWN, sender=technician),
        published.release(product, version(9), sender=technician),
        published.release(product, 0, sender=technician),
        published.find(product, bytes(32), sender=technician),
    ):
        assert (record.product, record.version, record.status) == (bytes(32), 0, 0)
    assert published.call_view_method("history", UNKNOWN, 0, 10) == []
    nothing = published.productRecord(UNKNOWN)
    assert (nothing.product, nothing.oem, nothing.paired) == (bytes(32), bytes(32), False)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        pytest.param((0, HUGE), [b"acme-thermo2", b"b", b"c"], id="all"),
        pytest.param((1, 1), [b"b"], id="a page"),
        pytest.param((2, 5), [b"c"], id="the last page"),
        pytest.param((3, 5), [], id="behind the last"),
        pytest.param((HUGE, HUGE), [], id="far behind"),
    ],
)
def test_products_should_give_pages_in_the_order_of_pairing(
    block_ota: ContractInstance, vendor: AccountAPI, oem: bytes, page: tuple[int, int], names: list[bytes]
) -> None:
    """`products` returns pages of products in the order of pairing, including unpaired products."""
    for name in (b"b", b"c"):
        block_ota.pairOem(name.ljust(32, b"\0"), oem, 0x0410, 0x0800_0000, 0x1_0000, sender=vendor)
    block_ota.unpairOem(b"b".ljust(32, b"\0"), sender=vendor)
    records = block_ota.products(*page)
    assert [record.product.rstrip(b"\0") for record in records] == names
    assert [record.paired for record in records] == [name != b"b" for name in names]
