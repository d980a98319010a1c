"""Tests of propose, accept and decline on published releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.agreements import named, release_of, terms
from tests.contracts.conftest import Contracts

MakeRelease = Callable[..., dict[str, Any]]
PRODUCT = b"acme-thermo2".ljust(32, b"\0")
YEAR = 365 * 86_400
EXPIRY = 4_000_000_000
FIRST, SECOND = 1 << 48 | 1 << 24, 1 << 48 | 2 << 24
ZERO_ADDRESS = "0x0000000000000000000000000000000000000000"
PROPOSED, ACCEPTED, DECLINED, WITHDRAWN = 1, 2, 3, 4


@pytest.fixture
def proposed(replication: ContractInstance, broker: TestAccountAPI) -> ContractInstance:
    """FirmwareReplication with agreement 1, the broker's proposal for release 1."""
    replication.propose(PRODUCT, FIRST, EXPIRY, sender=broker)
    return replication


def test_when_a_broker_proposes_it_should_be_recorded_and_emitted(
    replication: ContractInstance, broker: TestAccountAPI
) -> None:
    """A proposal is recorded as agreement 1 with all its fields, and its broker is not listed as a replica."""
    receipt = replication.propose(PRODUCT, FIRST, EXPIRY, sender=broker)
    (event,) = receipt.decode_logs(replication.AgreementProposed)
    record = replication.agreement(1)
    for name, value in {"id": 1, "product": PRODUCT, "broker": broker.address, "version": FIRST}.items():
        assert getattr(event, name) == getattr(record, name) == value
    assert event.expiresAt == record.expiresAt == EXPIRY
    assert (record.status, record.uri) == (PROPOSED, "")
    assert replication.agreementCount() == 1
    assert replication.newestOf(PRODUCT, FIRST, broker) == record
    assert replication.replicas(PRODUCT, FIRST, 0, 10) == []


def test_when_others_propose_too_it_should_number_them_in_sequence(
    proposed: ContractInstance, broker: TestAccountAPI, mallory: TestAccountAPI
) -> None:
    """Proposals of several brokers and for several releases are numbered in sequence."""
    proposed.propose(PRODUCT, FIRST, EXPIRY, sender=mallory)
    proposed.propose(PRODUCT, SECOND, EXPIRY, sender=broker)
    records = proposed.agreements(0, 10)
    assert [(record.id, record.broker, record.version) for record in records] == [
        (1, broker.address, FIRST),
        (2, mallory.address, FIRST),
        (3, broker.address, SECOND),
    ]


def test_when_the_release_is_scheduled_it_should_take_the_proposal(
    replication: ContractInstance,
    block_ota: ContractInstance,
    vendor: AccountAPI,
    broker: TestAccountAPI,
    make_release: MakeRelease,
) -> None:
    """Brokers may propose to serve a scheduled release, so that copies exist before it becomes active."""
    ahead = make_release(3, activeFrom=ape.chain.pending_timestamp + YEAR)
    block_ota.publish([ahead], sender=vendor)
    replication.propose(ahead["product"], ahead["version"], ahead["activeFrom"] + YEAR, sender=broker)
    assert replication.agreementCount() == 1


def test_when_the_release_is_unknown_it_should_refuse(replication: ContractInstance, broker: TestAccountAPI) -> None:
    """A proposal for a release that was not published is refused."""
    with ape.reverts(replication.ReleaseUnknown, product=PRODUCT, version=7):
        replication.propose(PRODUCT, 7, EXPIRY, sender=broker)


def test_when_the_release_is_revoked_it_should_refuse(
    replication: ContractInstance,
    block_ota: ContractInstance,
    vendor: AccountAPI,
    broker: TestAccountAPI,
) -> None:
    """A proposal for a revoked release is refused."""
    block_ota.revoke(PRODUCT, FIRST, "bricks boards", sender=vendor)
    with ape.reverts(replication.ReleaseRevokedAlready, product=PRODUCT, version=FIRST):
        replication.propose(PRODUCT, FIRST, EXPIRY, sender=broker)


@pytest.mark.parametrize("seconds", [pytest.param(0, id="the block's time"), pytest.param(-1, id="a past time")])
def test_when_the_expiry_is_not_ahead_it_should_refuse(
    replication: ContractInstance, broker: TestAccountAPI, seconds: int
) -> None:
    """A proposal whose expiry is not later than the block's time is refused."""
    now = int(ape.chain.pending_timestamp) + 100
    ape.chain.pending_timestamp = now
    with ape.reverts(replication.ExpiryInPast, expiresAt=now + seconds):
        replication.propose(PRODUCT, FIRST, now + seconds, sender=broker)
    ape.chain.pending_timestamp = now + 10
    replication.propose(PRODUCT, FIRST, now + 11, sender=broker)


@pytest.mark.parametrize("accepted", [False, True])
def test_when_the_broker_has_an_open_one_for_the_release_it_should_refuse_and_name_it(
    proposed: ContractInstance,
    vendor: AccountAPI,
    broker: TestAccountAPI,
    *,
    accepted: bool,
) -> None:
    """A second proposal of a broker for a release is refused; the error contains the open agreement's number."""
    if accepted:
        proposed.accept(*terms(proposed, 1), sender=vendor)
    with ape.reverts(proposed.AgreementStillOpen, id=1, expiresAt=EXPIRY):
        proposed.propose(PRODUCT, FIRST, EXPIRY, sender=broker)


@pytest.mark.parametrize("ending", ["decline", "withdraw", "terminate"])
def test_when_the_broker_s_earlier_one_has_ended_it_should_take_a_new_one(
    proposed: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI, ending: str
) -> None:
    """After an agreement was declined, withdrawn or terminated, the broker may propose again."""
    if ending == "terminate":
        proposed.accept(*terms(proposed, 1), sender=vendor)
    getattr(proposed, ending)(*named(proposed, ending, 1), sender=broker if ending == "withdraw" else vendor)
    receipt = proposed.propose(PRODUCT, FIRST, EXPIRY, sender=broker)
    assert receipt.decode_logs(proposed.AgreementWithdrawn) == []
    assert proposed.newestOf(PRODUCT, FIRST, broker).id == 2


@pytest.mark.parametrize("accepted", [False, True])
def test_when_the_broker_s_earlier_one_has_expired_it_should_withdraw_that_and_take_the_new_one(
    proposed: ContractInstance,
    vendor: AccountAPI,
    broker: TestAccountAPI,
    *,
    accepted: bool,
) -> None:
    """A broker's new proposal withdraws the expired agreement, and only the new agreement becomes a replica."""
    if accepted:
        proposed.accept(*terms(proposed, 1), sender=vendor)
        proposed.announce(*release_of(proposed, 1), "https://old.example", sender=broker)
    ape.chain.mine(timestamp=EXPIRY)
    receipt = proposed.propose(PRODUCT, FIRST, EXPIRY + YEAR, sender=broker)
    (event,) = receipt.decode_logs(proposed.AgreementWithdrawn)
    assert (event.id, proposed.agreement(1).status) == (1, WITHDRAWN)
    proposed.accept(*terms(proposed, 2), sender=vendor)
    proposed.announce(*release_of(proposed, 2), "https://new.example", sender=broker)
    assert [record.id for record in proposed.replicas(PRODUCT, FIRST, 0, 10)] == [2]


@pytest.mark.parametrize(
    ("verb", "expected"),
    [("accept", ("AgreementAccepted", ACCEPTED)), ("decline", ("AgreementDeclined", DECLINED))],
)
def test_when_the_vendor_decides_it_should_be_recorded_and_emitted(
    proposed: ContractInstance,
    safe: Any,
    broker: TestAccountAPI,
    *,
    verb: str,
    expected: tuple[str, int],
) -> None:
    """The Safe's decision is recorded and emitted; an accepted agreement is not listed before it is announced."""
    receipt = safe.execute(proposed, getattr(proposed, verb).encode_input(*terms(proposed, 1)), sender=broker)
    (event,) = receipt.decode_logs(getattr(proposed, expected[0]))
    assert (event.id, event.product, event.broker, event.version) == (1, PRODUCT, broker.address, FIRST)
    assert proposed.agreement(1).status == expected[1]
    assert proposed.replicas(PRODUCT, FIRST, 0, 10) == []


@pytest.mark.parametrize("who", ["mallory", "owner_a", "broker"])
def test_when_anyone_but_the_vendor_decides_it_should_refuse(
    proposed: ContractInstance, safe: Any, request: pytest.FixtureRequest, who: str
) -> None:
    """Only the Safe may accept, decline or terminate an agreement."""
    caller = request.getfixturevalue(who)
    for verb in ("accept", "decline", "terminate"):
        with ape.reverts(proposed.NotTheVendor, caller=caller.address, vendor=safe.contract.address):
            getattr(proposed, verb)(*terms(proposed, 1), sender=caller)


@pytest.mark.parametrize("verb", ["accept", "decline", "terminate"])
@pytest.mark.parametrize("changed", ["broker", "product", "version", "expiresAt"])
def test_when_the_vendor_was_shown_another_agreement_it_should_refuse(
    proposed: ContractInstance, vendor: AccountAPI, mallory: TestAccountAPI, verb: str, changed: str
) -> None:
    """A decision whose arguments differ from the recorded agreement is refused; the error contains the record."""
    if verb == "terminate":
        proposed.accept(*terms(proposed, 1), sender=vendor)
    names = ("id", "broker", "product", "version", "expiresAt")
    recorded = dict(zip(names, terms(proposed, 1), strict=True))
    other = {
        "broker": mallory.address,
        "product": b"another".ljust(32, b"\0"),
        "version": SECOND,
        "expiresAt": EXPIRY + 1,
    }
    shown = recorded | {changed: other[changed]}
    with ape.reverts(proposed.AgreementDiffers, **recorded):
        getattr(proposed, verb)(*shown.values(), sender=vendor)
    getattr(proposed, verb)(*recorded.values(), sender=vendor)


def test_when_several_are_accepted_it_should_accept_all_or_none(
    proposed: ContractInstance, vendor: AccountAPI, mallory: TestAccountAPI
) -> None:
    """`acceptAll` accepts all named proposals; if one cannot be accepted, it accepts none and reverts like `accept`."""
    proposed.propose(PRODUCT, SECOND, EXPIRY, sender=mallory)
    both = [terms(proposed, number) for number in (1, 2)]
    with ape.reverts(proposed.NothingToAccept):
        proposed.acceptAll([], sender=vendor)
    with ape.reverts(proposed.NotTheVendor, caller=mallory.address):
        proposed.acceptAll(both, sender=mallory)
    with ape.reverts(proposed.AgreementDiffers, id=2):
        proposed.acceptAll([both[0], (*both[1][:-1], EXPIRY + 1)], sender=vendor)
    with ape.reverts(proposed.WrongAgreementStatus, id=1, status=ACCEPTED):
        proposed.acceptAll([both[0], both[0]], sender=vendor)
    assert [proposed.agreement(number).status for number in (1, 2)] == [PROPOSED, PROPOSED]

    receipt = proposed.acceptAll(both, sender=vendor)
    assert [log.id for log in receipt.decode_logs(proposed.AgreementAccepted)] == [1, 2]
    assert [proposed.agreement(number).status for number in (1, 2)] == [ACCEPTED, ACCEPTED]


def test_when_blockota_has_a_new_owner_it_should_obey_that_one_alone(
    proposed: ContractInstance, block_ota: ContractInstance, vendor: AccountAPI, mallory: TestAccountAPI
) -> None:
    """If BlockOTA has a new owner who accepted the ownership, only the new owner may decide on agreements."""
    block_ota.transferOwnership(mallory, sender=vendor)
    with ape.reverts(proposed.NotTheVendor, caller=mallory.address):
        proposed.accept(*terms(proposed, 1), sender=mallory)
    block_ota.acceptOwnership(sender=mallory)
    with ape.reverts(proposed.NotTheVendor, caller=vendor.address, vendor=mallory.address):
        proposed.accept(*terms(proposed, 1), sender=vendor)
    proposed.accept(*terms(proposed, 1), sender=mallory)
    assert proposed.agreement(1).status == ACCEPTED


def test_when_the_proposal_has_expired_it_should_be_declined_but_not_accepted(
    proposed: ContractInstance, vendor: AccountAPI
) -> None:
    """From the second of its expiry on, a proposal can be declined but not accepted."""
    ape.chain.pending_timestamp = EXPIRY
    with ape.reverts(proposed.AgreementExpired, id=1, expiresAt=EXPIRY):
        proposed.accept(*terms(proposed, 1), sender=vendor)
    proposed.decline(*terms(proposed, 1), sender=vendor)
    assert proposed.agreement(1).status == DECLINED


def test_when_it_is_the_last_second_it_should_be_accepted(proposed: ContractInstance, vendor: AccountAPI) -> None:
    """One second before its expiry, a proposal can be accepted."""
    ape.chain.pending_timestamp = EXPIRY - 1
    assert proposed.accept(*terms(proposed, 1), sender=vendor).timestamp == EXPIRY - 1


def test_when_the_release_was_revoked_meanwhile_it_should_not_be_accepted(
    proposed: ContractInstance, block_ota: ContractInstance, vendor: AccountAPI
) -> None:
    """A proposal for a release that was revoked later cannot be accepted."""
    block_ota.revoke(PRODUCT, FIRST, "bricks boards", sender=vendor)
    with ape.reverts(proposed.ReleaseRevokedAlready, product=PRODUCT, version=FIRST):
        proposed.accept(*terms(proposed, 1), sender=vendor)


def test_when_it_would_be_deployed_without_blockota_it_should_refuse(
    contracts: Contracts, replication: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The constructor of FirmwareReplication refuses an address without code."""
    with ape.reverts(replication.NotAContract, account=ZERO_ADDRESS):
        contracts["FirmwareReplication"].deploy(ZERO_ADDRESS, sender=owner_a)
