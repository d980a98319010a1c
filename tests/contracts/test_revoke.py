"""Tests of revoke with two published releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]
FIRST, SECOND = 1 << 48 | 1 << 24, 1 << 48 | 2 << 24
REVOKED = 2


@pytest.fixture
def with_releases(block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease) -> ContractInstance:
    """BlockOTA with releases 1 and 2 published."""
    block_ota.publish([make_release(1), make_release(2)], sender=vendor)
    return block_ota


def test_when_the_newest_is_revoked_it_should_emit_the_reason_and_fall_back_to_the_one_before(
    with_releases: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """After release 2 is revoked with a reason, release 1 is the latest, and release 2 is not authentic."""
    receipt = with_releases.revoke(product, SECOND, "bricks boards", sender=vendor)
    (event,) = receipt.decode_logs(with_releases.ReleaseRevoked)
    image = make_release(2)["sha256"]
    assert (event.product, event.version, event.sha256, event.reason) == (product, SECOND, image, "bricks boards")
    assert with_releases.release(product, SECOND).status == REVOKED
    assert with_releases.latest(product).version == FIRST
    assert not with_releases.isAuthentic(product, SECOND, image)


def test_when_a_release_is_revoked_it_should_keep_all_its_other_facts(
    with_releases: ContractInstance, vendor: AccountAPI, product: bytes
) -> None:
    """Revoking a release changes only the status of its record."""
    before = with_releases.release(product, FIRST)
    with_releases.revoke(product, FIRST, "", sender=vendor)
    after = with_releases.release(product, FIRST)
    names = ("version", "previous", "sha256", "size", "loadAddress", "activeFrom", "chipId", "dagRoot")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert with_releases.latest(product).version == SECOND


def test_when_all_are_revoked_it_should_leave_no_latest(
    with_releases: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes
) -> None:
    """After all releases are revoked, no release is the latest, and their versions cannot be published again."""
    for version in (FIRST, SECOND):
        with_releases.revoke(product, version, "bricks boards", sender=vendor)
    assert with_releases.latest(product).version == 0
    assert with_releases.productRecord(product).head == SECOND
    with ape.reverts(with_releases.VersionNotNewer, product=product, version=SECOND, head=SECOND):
        with_releases.publish([make_release(3, version=SECOND)], sender=vendor)


def test_when_the_contract_is_paused_it_should_revoke_all_the_same(
    with_releases: ContractInstance, vendor: AccountAPI, product: bytes
) -> None:
    """A release can be revoked while BlockOTA is paused."""
    with_releases.pause(sender=vendor)
    with_releases.revoke(product, SECOND, "bricks boards", sender=vendor)
    assert with_releases.release(product, SECOND).status == REVOKED


@pytest.mark.parametrize("version", [0, FIRST + 1], ids=["zero", "never published"])
def test_when_there_is_no_such_release_it_should_refuse(
    with_releases: ContractInstance, vendor: AccountAPI, product: bytes, version: int
) -> None:
    """Revoking a version that was not published is refused."""
    with ape.reverts(with_releases.ReleaseUnknown, product=product, version=version):
        with_releases.revoke(product, version, "bricks boards", sender=vendor)


def test_when_the_release_is_revoked_already_it_should_refuse(
    with_releases: ContractInstance, vendor: AccountAPI, product: bytes
) -> None:
    """Revoking a release twice is refused, and the release remains revoked."""
    with_releases.revoke(product, FIRST, "bricks boards", sender=vendor)
    with ape.reverts(with_releases.ReleaseAlreadyRevoked, product=product, version=FIRST):
        with_releases.revoke(product, FIRST, "bricks boards", sender=vendor)
    assert with_releases.release(product, FIRST).status == REVOKED
