"""Tests of pause and resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("who", ["vendor", "owner_a", "owner_b", "owner_c"])
def test_when_the_safe_or_any_of_its_owners_pauses_it_should_emit_and_refuse_to_publish_until_resumed(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, request: pytest.FixtureRequest, who: str
) -> None:
    """The Safe, or any one of its owners, can pause BlockOTA; nothing is published until the Safe resumes it."""
    caller = request.getfixturevalue(who)
    (event,) = block_ota.pause(sender=caller).decode_logs(block_ota.Paused)
    assert event.account == caller.address
    assert block_ota.paused()
    with ape.reverts(block_ota.EnforcedPause):
        block_ota.publish([make_release(1)], sender=vendor)
    (event,) = block_ota.resume(sender=vendor).decode_logs(block_ota.Unpaused)
    assert event.account == vendor.address
    block_ota.publish([make_release(1)], sender=vendor)
    assert not block_ota.paused()


@pytest.mark.parametrize("who", ["mallory", "broker"])
def test_when_a_stranger_pauses_it_should_refuse(
    empty: ContractInstance, request: pytest.FixtureRequest, who: str
) -> None:
    """An account that is neither the contract's owner nor an owner of the Safe cannot pause BlockOTA."""
    caller = request.getfixturevalue(who)
    with ape.reverts(empty.PausingNotAllowed, account=caller.address):
        empty.pause(sender=caller)
    assert not empty.paused()


def test_when_an_owner_has_left_the_safe_it_should_refuse(
    empty: ContractInstance, safe: Any, owner_b: TestAccountAPI, owner_c: TestAccountAPI
) -> None:
    """An account that was removed from the Safe's owners cannot pause BlockOTA."""
    safe.execute(safe.contract, safe.contract.removeOwner.encode_input(owner_b, owner_c, 2), sender=owner_b)
    with ape.reverts(empty.PausingNotAllowed, account=owner_c.address):
        empty.pause(sender=owner_c)


def test_when_ownership_moves_to_an_account_it_should_obey_that_account_alone(
    empty: ContractInstance, vendor: AccountAPI, owner_a: TestAccountAPI, broker: TestAccountAPI
) -> None:
    """If BlockOTA's new owner is an account without code, only that account may pause."""
    empty.transferOwnership(broker, sender=vendor)
    empty.acceptOwnership(sender=broker)
    with ape.reverts(empty.PausingNotAllowed, account=owner_a.address):
        empty.pause(sender=owner_a)
    empty.pause(sender=broker)
    assert empty.paused()


@pytest.mark.parametrize("who", ["vendor", "owner_a"])
def test_when_it_is_paused_twice_it_should_refuse(
    empty: ContractInstance, request: pytest.FixtureRequest, who: str
) -> None:
    """Pausing a paused contract reverts with `EnforcedPause`."""
    caller = request.getfixturevalue(who)
    empty.pause(sender=caller)
    with ape.reverts(empty.EnforcedPause):
        empty.pause(sender=caller)


def test_when_it_is_resumed_without_a_pause_it_should_refuse(empty: ContractInstance, vendor: AccountAPI) -> None:
    """Resuming a contract that is not paused reverts with `ExpectedPause`."""
    with ape.reverts(empty.ExpectedPause):
        empty.resume(sender=vendor)


def test_while_it_is_paused_it_should_still_revoke_and_raise_the_floor(
    block_ota: ContractInstance, vendor: AccountAPI, owner_a: TestAccountAPI, make_release: MakeRelease
) -> None:
    """While BlockOTA is paused, releases can be revoked and the minimum version can be raised."""
    release = make_release(1)
    block_ota.publish([release], sender=vendor)
    block_ota.pause(sender=owner_a)
    block_ota.revoke(release["product"], release["version"], "bricks boards", sender=vendor)
    block_ota.setMinimumVersion(release["product"], release["version"] + 1, sender=vendor)
    assert block_ota.latest(release["product"]).version == 0
