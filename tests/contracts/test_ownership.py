"""Who may write, and handing the contract over: given a contract of the Safe's, when …, it should …."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

MakeRelease = Callable[..., dict[str, Any]]
NOBODY = "0x0000000000000000000000000000000000000000"


@pytest.fixture
def writing_calls(make_release: MakeRelease, product: bytes, oem: bytes, mallory: TestAccountAPI) -> dict[str, Any]:
    """Arguments for every function that only the owner may call."""
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
    """One that is added must be added to the test of access below; accepting is the new owner's, pausing is apart."""
    writing = {entry.name for entry in empty.contract_type.mutable_methods}
    assert writing == writing_calls.keys() | {"acceptOwnership", "pause"}


@pytest.mark.parametrize("who", ["mallory", "owner_a", "broker"])
def test_when_anyone_but_the_safe_writes_it_should_refuse(
    empty: ContractInstance, writing_calls: dict[str, Any], request: pytest.FixtureRequest, who: str
) -> None:
    """Not even one of the Safe's owners may write alone."""
    caller = request.getfixturevalue(who)
    for name, arguments in writing_calls.items():
        with ape.reverts(empty.OwnableUnauthorizedAccount, account=caller.address):
            getattr(empty, name)(*arguments, sender=caller)


def test_when_ownership_is_transferred_it_should_change_only_once_accepted(
    empty: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI
) -> None:
    """Two steps: an address nobody can sign for never becomes the owner."""
    started = empty.transferOwnership(broker, sender=vendor).decode_logs(empty.OwnershipTransferStarted)
    assert (empty.owner(), empty.pendingOwner()) == (vendor.address, broker.address)
    accepted = empty.acceptOwnership(sender=broker).decode_logs(empty.OwnershipTransferred)
    assert (empty.owner(), empty.pendingOwner()) == (broker.address, NOBODY)
    assert (started[0].newOwner, accepted[0].newOwner) == (broker.address, broker.address)


def test_when_another_accepts_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI, mallory: TestAccountAPI
) -> None:
    """Only the one who was named may take over."""
    empty.transferOwnership(broker, sender=vendor)
    with ape.reverts(empty.OwnableUnauthorizedAccount, account=mallory.address):
        empty.acceptOwnership(sender=mallory)


def test_when_ownership_is_renounced_it_should_refuse_even_the_safe(
    empty: ContractInstance, vendor: AccountAPI
) -> None:
    """A record that nobody owns could never revoke."""
    with ape.reverts(empty.RenouncingRefused):
        empty.renounceOwnership(sender=vendor)
    assert empty.owner() == vendor.address


def test_when_it_would_be_deployed_without_an_owner_it_should_refuse(
    contracts: ape.Project, empty: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The constructor wants the Safe."""
    with ape.reverts(empty.OwnableInvalidOwner, owner=NOBODY):
        contracts.BlockOTA.deploy(NOBODY, sender=owner_a)
