"""Tests of the access to BlockOTA's write functions, and of the transfer of ownership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.conftest import Contracts

MakeRelease = Callable[..., dict[str, Any]]
ZERO_ADDRESS = "0x0000000000000000000000000000000000000000"


@pytest.fixture
def writing_calls(make_release: MakeRelease, product: bytes, oem: bytes, mallory: TestAccountAPI) -> dict[str, Any]:
    """Arguments for each function of BlockOTA that only the contract's owner may call."""
    return {
        "publish": ([make_release(1)],),
        "revoke": (product, 1, "bricks boards"),
        "setMinimumVersion": (product, 1),
        "pairOem": (product, oem, 0x0410, 0x0800_0000, 0x1_0000),
        "unpairOem": (product,),
        "resume": (),
        "transferOwnership": (mallory.address,),
    }


def test_every_writing_function_is_among_those_tested(empty: ContractInstance, writing_calls: dict[str, Any]) -> None:
    """`writing_calls` contains every write function of BlockOTA, except `acceptOwnership` and `pause`."""
    writing = {entry.name for entry in empty.contract_type.mutable_methods}
    assert writing == writing_calls.keys() | {"acceptOwnership", "pause"}


@pytest.mark.parametrize("who", ["mallory", "owner_a", "broker"])
def test_when_anyone_but_the_safe_writes_it_should_refuse(
    empty: ContractInstance, writing_calls: dict[str, Any], request: pytest.FixtureRequest, who: str
) -> None:
    """Only the Safe may call the write functions; an attacker, a broker and a single owner of the Safe may not."""
    caller = request.getfixturevalue(who)
    for name, arguments in writing_calls.items():
        with ape.reverts(empty.OwnableUnauthorizedAccount, account=caller.address):
            getattr(empty, name)(*arguments, sender=caller)


def test_when_ownership_is_transferred_it_should_change_only_once_accepted(
    empty: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI
) -> None:
    """The ownership moves only when the new owner accepts it, so an address without a key never owns the contract."""
    started = empty.transferOwnership(broker, sender=vendor).decode_logs(empty.OwnershipTransferStarted)
    assert (empty.owner(), empty.pendingOwner()) == (vendor.address, broker.address)
    accepted = empty.acceptOwnership(sender=broker).decode_logs(empty.OwnershipTransferred)
    assert (empty.owner(), empty.pendingOwner()) == (broker.address, ZERO_ADDRESS)
    assert (started[0].newOwner, accepted[0].newOwner) == (broker.address, broker.address)


def test_when_another_accepts_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI, mallory: TestAccountAPI
) -> None:
    """Only the pending owner may call `acceptOwnership`."""
    empty.transferOwnership(broker, sender=vendor)
    with ape.reverts(empty.OwnableUnauthorizedAccount, account=mallory.address):
        empty.acceptOwnership(sender=mallory)


def test_when_ownership_is_renounced_it_should_refuse_even_the_safe(
    empty: ContractInstance, vendor: AccountAPI
) -> None:
    """`renounceOwnership` always reverts, because a contract without an owner could never revoke a release."""
    with ape.reverts(empty.RenouncingRefused):
        empty.renounceOwnership(sender=vendor)
    assert empty.owner() == vendor.address


def test_when_it_would_be_deployed_without_an_owner_it_should_refuse(
    contracts: Contracts, empty: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The constructor of BlockOTA refuses the zero address as owner."""
    with ape.reverts(empty.OwnableInvalidOwner, owner=ZERO_ADDRESS):
        contracts["BlockOTA"].deploy(ZERO_ADDRESS, sender=owner_a)
