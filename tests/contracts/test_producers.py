"""Tests of Producers: admission, suspension, reading, and access."""

from __future__ import annotations

from collections.abc import Iterator

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.conftest import Contracts
from tests.contracts.test_storage import mapped, packed, word

ENTRIES, NAMES = 2, 3
ZERO_ADDRESS = "0x0000000000000000000000000000000000000000"
NAME, OTHER = b"acme".ljust(32, b"\0"), b"globex".ljust(32, b"\0")


@pytest.fixture(scope="session")
def producers_deployed(
    contracts: Contracts, owner_a: TestAccountAPI, vendor: AccountAPI, replication_deployed: ContractInstance
) -> ContractInstance:
    """Producers without a registered producer, owned by the Safe.

    BlockOTA and FirmwareReplication are deployed as well.
    """
    del replication_deployed
    return contracts["Producers"].deploy(vendor.address, sender=owner_a)


@pytest.fixture
def producers(producers_deployed: ContractInstance) -> Iterator[ContractInstance]:
    """Producers without a registered producer; after each test, the chain is reset to the state before the test."""
    snapshot = ape.chain.snapshot()
    yield producers_deployed
    ape.chain.restore(snapshot)


@pytest.fixture
def admitted(
    producers: ContractInstance,
    deployed: ContractInstance,
    replication_deployed: ContractInstance,
    vendor: AccountAPI,
) -> ContractInstance:
    """Producers with one producer."""
    producers.admit(NAME, deployed, replication_deployed, sender=vendor)
    return producers


def test_when_a_producer_is_admitted_it_should_be_recorded_and_emitted(
    producers: ContractInstance,
    deployed: ContractInstance,
    replication_deployed: ContractInstance,
    vendor: AccountAPI,
) -> None:
    """An admitted producer is recorded with all its fields."""
    receipt = producers.admit(NAME, deployed, replication_deployed, sender=vendor)
    (event,) = receipt.decode_logs(producers.ProducerAdmitted)
    record = producers.producer(NAME)
    for one in (event, record):
        assert one.name == NAME
        assert one.blockOta == deployed.address
        assert one.replication == replication_deployed.address
    assert (record.suspended, record.since) == (False, ape.chain.blocks.head.timestamp)
    assert producers.producerOf(deployed) == record
    assert producers.producers(0, 9) == [record]
    assert producers.producerCount() == 1


def test_when_a_producer_has_no_replication_it_should_be_admitted(
    producers: ContractInstance, deployed: ContractInstance, vendor: AccountAPI
) -> None:
    """A producer without FirmwareReplication is recorded with the address 0."""
    producers.admit(NAME, deployed, ZERO_ADDRESS, sender=vendor)
    assert producers.producer(NAME).replication == ZERO_ADDRESS


def test_when_a_name_or_contract_is_taken_it_should_refuse(
    admitted: ContractInstance, deployed: ContractInstance, vendor: AccountAPI
) -> None:
    """A name and a BlockOTA contract can belong to only one producer."""
    with ape.reverts(admitted.ProducerKnown, name=NAME, blockOta=deployed.address):
        admitted.admit(NAME, admitted, ZERO_ADDRESS, sender=vendor)
    with ape.reverts(admitted.BlockOtaTaken, blockOta=deployed.address, name=NAME):
        admitted.admit(OTHER, deployed, ZERO_ADDRESS, sender=vendor)


def test_when_the_name_is_not_visible_ascii_it_should_refuse(
    producers: ContractInstance, deployed: ContractInstance, vendor: AccountAPI
) -> None:
    """The name of a producer has 1 to 31 visible ASCII characters."""
    for name in (b"", b"x" * 32, b"two words", "für".encode(), b"\0acme"):
        key = name.ljust(32, b"\0")
        with ape.reverts(producers.ProducerNameInvalid, name=key):
            producers.admit(key, deployed, ZERO_ADDRESS, sender=vendor)


def test_when_a_contract_is_missing_or_of_another_kind_it_should_refuse(
    producers: ContractInstance,
    deployed: ContractInstance,
    replication_deployed: ContractInstance,
    vendor: AccountAPI,
    mallory: TestAccountAPI,
) -> None:
    """BlockOTA must have code, and FirmwareReplication must name this BlockOTA."""
    for arguments in ((mallory, ZERO_ADDRESS), (deployed, mallory)):
        with ape.reverts(producers.ContractMissing, account=mallory.address):
            producers.admit(NAME, *arguments, sender=vendor)
    with ape.reverts(
        producers.ReplicationOfAnother,
        replication=replication_deployed.address,
        served=deployed.address,
        blockOta=producers.address,
    ):
        producers.admit(NAME, producers, replication_deployed, sender=vendor)
    with ape.reverts(producers.ReplicationOfAnother, served=ZERO_ADDRESS):
        producers.admit(NAME, deployed, producers, sender=vendor)


def test_when_a_producer_is_suspended_it_should_change_nothing_else(
    admitted: ContractInstance, vendor: AccountAPI
) -> None:
    """A suspension is recorded and emitted as an event, and a restoration ends the suspension."""
    before = admitted.producer(NAME)
    (event,) = admitted.suspend(NAME, sender=vendor).decode_logs(admitted.ProducerSuspended)
    assert event.name == NAME
    suspended = admitted.producer(NAME)
    assert suspended.suspended
    assert (suspended.blockOta, suspended.replication, suspended.since) == (
        before.blockOta,
        before.replication,
        before.since,
    )
    with ape.reverts(admitted.ProducerSuspendedAlready, name=NAME):
        admitted.suspend(NAME, sender=vendor)
    (event,) = admitted.restore(NAME, sender=vendor).decode_logs(admitted.ProducerRestored)
    assert event.name == NAME
    assert admitted.producer(NAME) == before
    with ape.reverts(admitted.ProducerNotSuspended, name=NAME):
        admitted.restore(NAME, sender=vendor)


def test_when_no_producer_has_the_name_it_should_refuse_or_return_nothing(
    admitted: ContractInstance, vendor: AccountAPI, mallory: TestAccountAPI
) -> None:
    """Functions that write refuse unknown producer names. Getters return empty records for unknown producer names."""
    for function in (admitted.suspend, admitted.restore):
        with ape.reverts(admitted.ProducerUnknown, name=OTHER):
            function(OTHER, sender=vendor)
    assert admitted.producer(OTHER).blockOta == admitted.producerOf(mallory).blockOta == ZERO_ADDRESS
    assert admitted.producers(1, 5) == admitted.producers(0, 0) == []


def test_when_anyone_but_the_safe_writes_it_should_refuse(
    admitted: ContractInstance, mallory: TestAccountAPI, vendor: AccountAPI
) -> None:
    """Only the owner can write, and the owner cannot renounce the ownership."""
    for name, arguments in {
        "admit": (OTHER, admitted, ZERO_ADDRESS),
        "suspend": (NAME,),
        "restore": (NAME,),
        "transferOwnership": (mallory.address,),
        "acceptOwnership": (),
    }.items():
        with ape.reverts(admitted.OwnableUnauthorizedAccount, account=mallory.address):
            getattr(admitted, name)(*arguments, sender=mallory)
    with ape.reverts(admitted.RenouncingRefused):
        admitted.renounceOwnership(sender=vendor)
    admitted.transferOwnership(mallory, sender=vendor)
    admitted.acceptOwnership(sender=mallory)
    admitted.suspend(NAME, sender=mallory)


def test_a_producer_should_be_where_documented(
    admitted: ContractInstance,
    deployed: ContractInstance,
    replication_deployed: ContractInstance,
    vendor: AccountAPI,
) -> None:
    """The record of a producer is in the storage slots that docs/contracts.md documents."""
    admitted.suspend(NAME, sender=vendor)
    base = mapped(NAME, ENTRIES)
    fields = [(int(deployed.address, 16), 160), (1, 8), (admitted.producer(NAME).since, 40)]
    assert word(admitted, base) == packed(*fields)
    assert word(admitted, base + 1) == int(replication_deployed.address, 16)
    assert word(admitted, mapped(int(deployed.address, 16), NAMES)) == int.from_bytes(NAME, "big")
